import { waitFor, within } from '../async/wait.js';

/** More than this is not kept for a reader that lags behind: whoever tells waits. */
const mostWaiting = 1_000;
/** A reader that takes nothing for so long has left, whatever its connection says. */
const patienceMs = 60_000;

export class ReaderStalled extends Error {
  override readonly name = 'ReaderStalled';
  readonly code = 'reader-stalled';
  constructor() {
    super(`the reader took no event for ${patienceMs / 1000} s`);
  }
}

/** From work that tells of itself, without waiting, to one who reads at its own pace. */
export class Channel<T> {
  readonly #waiting: T[] = [];
  #latest: T | undefined;
  #ended = false;
  #changed = Promise.withResolvers<void>();
  #taken = Promise.withResolvers<void>();

  tell(item: T): void {
    this.#waiting.push(item);
    this.#change();
  }

  /** Of such items only the last matters. */
  tellLatest(item: T): void {
    this.#latest = item;
    this.#change();
  }

  end(): void {
    this.#ended = true;
    this.#change();
  }

  /** Settles when the reader is near. Throws ReaderStalled, and the signal's reason. */
  async ready(signal: AbortSignal): Promise<void> {
    while (this.#waiting.length > mostWaiting) {
      await within(waitFor(this.#taken.promise, signal), patienceMs, () => new ReaderStalled());
    }
  }

  /** Once. Ends when all that was told before the end is read. */
  async *read(): AsyncGenerator<T> {
    for (;;) {
      while (this.#waiting.length > 0) {
        const items = this.#waiting.splice(0);
        this.#taken.resolve();
        this.#taken = Promise.withResolvers();
        yield* items;
      }
      if (this.#latest !== undefined) {
        const item = this.#latest;
        this.#latest = undefined;
        yield item;
        continue;
      }
      if (this.#ended) return;
      await this.#changed.promise;
    }
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
