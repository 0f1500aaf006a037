import { setImmediate as nextTurn } from 'node:timers/promises';

/** The turn that the last caller waits for. Never rejects. */
let last: Promise<void> = Promise.resolve();

/**
 * Resolves in a later turn of the event loop, in which no other caller of this function continues: steps of jobs that
 * run side by side do not add up to one long step.
 */
export function loopTurn(): Promise<void> {
  last = last.then(() => nextTurn());
  return last;
}
