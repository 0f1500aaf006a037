import { loopTurn } from '../async/loop-turn.js';

/** Does the portions of long work one by one, each in a turn of the event loop of its own, and returns its result. */
export async function inPortions<T>(work: Generator<void, T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    await loopTurn();
    signal.throwIfAborted();
    const portion = work.next();
    if (portion.done === true) return portion.value;
  }
}
