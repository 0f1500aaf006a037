/**
 * How long a test waits for what must come, in milliseconds. It is there to end a wait for what never comes; no machine
 * is so busy that what does come takes as long.
 */
export const patienceMs = 300_000;

/** The longest time of one test or hook, which may wait several times, in milliseconds. */
export const testPatienceMs = 900_000;

export function patience(): AbortSignal {
  return AbortSignal.timeout(patienceMs);
}
