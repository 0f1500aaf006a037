import { setImmediate as breathe } from 'node:timers/promises';

/** Takes the portions of long work one by one, lets others work in between, and returns its result. */
export async function inPortions<T>(work: Generator<void, T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    const portion = work.next();
    if (portion.done === true) return portion.value;
    signal.throwIfAborted();
    await breathe();
  }
}
