import { Shares } from './shares.js';

/** The budget has no room, and got none in time. */
export class NoRoom extends Error {
  override readonly name = 'NoRoom';
  constructor(wanted: number) {
    super(`no room in memory for ${wanted} bytes`);
  }
}

interface Waiting {
  readonly bytes: number;
  readonly enter: () => void;
}

/**
 * Limits how many bytes of bodies are in memory at a time. A source may have as many bytes as are free
 * ({@link Shares}). Bodies of a source that wait get room in their order; those of another source do not wait for them.
 */
export class ByteBudget {
  readonly #shares: Shares;
  /** By source. */
  readonly #waiting = new Map<string, Set<Waiting>>();

  constructor(
    capacity: number,
    /** A body waits for at most this many milliseconds, then gets `NoRoom`. */
    private readonly waitMs: number,
  ) {
    this.#shares = new Shares(capacity);
  }

  /** The bytes of all bodies. */
  get held(): number {
    return this.#shares.held;
  }

  /** Room for a body of this source: no bytes yet. */
  open(source: string): Holding {
    return new Holding(this, source);
  }

  /** Takes the bytes without waiting; `false` where there is no room. */
  tryTake(source: string, bytes: number): boolean {
    if (this.#waiting.has(source) || !this.#shares.haveRoomFor(source, bytes)) return false;
    this.#shares.take(source, bytes);
    return true;
  }

  /** Takes the bytes, or rejects with NoRoom or with the signal's reason. Work that belongs to no caller has no signal. */
  take(source: string, bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.tryTake(source, bytes)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const leave = (reason: unknown): void => {
        end();
        reject(reason as Error);
        this.#admit(); // a smaller one may fit now
      };
      const abort = (): void => leave(signal?.reason);
      const timer = setTimeout(() => leave(new NoRoom(bytes)), this.waitMs);
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        this.#remove(source, waiting);
      };
      const waiting: Waiting = {
        bytes,
        enter: () => {
          end();
          resolve();
        },
      };
      this.#add(source, waiting);
      if (signal?.aborted === true) abort();
      else signal?.addEventListener('abort', abort, { once: true });
    });
  }

  give(source: string, bytes: number): void {
    this.#shares.give(source, bytes);
    this.#admit();
  }

  #admit(): void {
    for (const [source, queue] of this.#waiting) {
      for (const { bytes, enter } of queue) {
        if (!this.#shares.haveRoomFor(source, bytes)) break;
        this.#shares.take(source, bytes);
        enter();
      }
    }
  }

  #add(source: string, waiting: Waiting): void {
    const queue = this.#waiting.get(source) ?? new Set();
    this.#waiting.set(source, queue.add(waiting));
  }

  #remove(source: string, waiting: Waiting): void {
    const queue = this.#waiting.get(source);
    queue?.delete(waiting);
    if (queue?.size === 0) this.#waiting.delete(source);
  }
}

/** The bytes of one body in a budget, until it is disposed. */
export class Holding implements Disposable {
  #bytes = 0;

  constructor(
    private readonly budget: ByteBudget,
    private readonly source: string,
  ) {}

  /** Adds the bytes, or rejects with NoRoom or with the signal's reason. */
  async grow(bytes: number, signal?: AbortSignal): Promise<void> {
    if (!this.tryGrow(bytes)) {
      await this.budget.take(this.source, bytes, signal);
      this.#bytes += bytes;
    }
  }

  /** Adds the bytes without waiting; `false` where there is no room. */
  tryGrow(bytes: number): boolean {
    if (!this.budget.tryTake(this.source, bytes)) return false;
    this.#bytes += bytes;
    return true;
  }

  [Symbol.dispose](): void {
    const bytes = this.#bytes;
    this.#bytes = 0;
    this.budget.give(this.source, bytes);
  }
}
