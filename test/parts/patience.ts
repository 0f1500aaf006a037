/**
 * How long a test waits for an expected event, in milliseconds. It only ends a wait for an event that never comes: on
 * no machine does an expected event take as long.
 */
export const patienceMs = 300_000;

/** The longest time of one test or hook, which may wait several times, in milliseconds. */
export const testPatienceMs = 900_000;

export function patience(): AbortSignal {
  return AbortSignal.timeout(patienceMs);
}
