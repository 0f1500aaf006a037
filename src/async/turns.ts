import { waitFor } from './wait.js';

/** Lets callers work one after the other, in the order in which they ask. */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** Resolves when it is the caller's turn, which ends when the caller disposes of the result. Throws the signal's reason. */
  async take(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = before.then(() => promise);
    try {
      await waitFor(before, signal);
      return { [Symbol.dispose]: resolve };
    } catch (error) {
      resolve();
      throw error;
    }
  }
}
