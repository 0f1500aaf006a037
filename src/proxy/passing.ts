import type { StorageError } from '../storage/storage.js';
import type { Spool } from '../storage/spool.js';
import type { Changes } from './changes.js';

/** What a transfer whose spool is full holds in memory. */
const passedBytes = 2 * 1024 * 1024;
/** When others wait for bytes that there is no room for, a reader that holds them up is cut off after this. */
const holdUpMs = 2_000;

/** Where a reader is. */
export interface Place {
  offset: number;
  /** It was cut off. */
  cut: StorageError | undefined;
}

/**
 * The readers of a transfer, and how the rest goes to them when its spool is full: through a little memory, which
 * holds what the slowest of them still wants, so the upstream is read at their pace.
 */
export class Passing {
  readonly #places = new Set<Place>();
  #full: StorageError | undefined;

  constructor(
    private readonly spool: Spool,
    private readonly changes: Changes,
    /** Bytes that a reader may have now. */
    private readonly readable: () => number,
  ) {}

  /** Why the rest is passed on and not kept; `undefined`: it is kept. */
  get full(): StorageError | undefined {
    return this.#full;
  }

  /** Whether there is anybody to pass something on to. */
  get hasReaders(): boolean {
    return this.#places.size > 0;
  }

  enter(): Place {
    const place = { offset: 0, cut: undefined };
    this.#places.add(place);
    return place;
  }

  leave(place: Place): void {
    this.#places.delete(place);
    if (this.#full !== undefined) this.changes.tell();
  }

  /** Throws where the reader was cut off. */
  move(place: Place, offset: number): void {
    if (place.cut !== undefined) throw place.cut;
    if (place.offset === offset) return; // or those who wait would wake each other for ever
    place.offset = offset;
    if (this.#full !== undefined) this.changes.tell();
  }

  /** From now on nothing is kept. */
  begin(full: StorageError): void {
    this.#full = full;
  }

  /** Settles when memory has taken the chunk; throws why it was not kept once nobody reads any more. */
  async pass(chunk: Uint8Array, full: StorageError, signal: AbortSignal): Promise<void> {
    const since = performance.now();
    for (;;) {
      if (this.#places.size === 0) throw full;
      const slowest = Math.min(...[...this.#places].map(({ offset }) => offset));
      this.spool.forget(slowest);
      if (this.spool.held + chunk.byteLength <= passedBytes) break;
      const othersWait = [...this.#places].some(({ offset }) => offset >= this.readable());
      if (othersWait && performance.now() - since > holdUpMs) this.#cutOff(slowest, full);
      else await this.changes.nextWithin(holdUpMs, signal);
    }
    this.spool.pass(chunk);
  }

  #cutOff(offset: number, full: StorageError): void {
    for (const place of this.#places) {
      if (place.offset > offset) continue;
      place.cut = full;
      this.#places.delete(place);
    }
    this.changes.tell();
  }
}
