import { setTimeout as sleep } from 'node:timers/promises';
import type { Coordinator } from './cluster.js';

const firstPauseMs = 20;
const longestPauseMs = 200;

/**
 * Does a piece of work once in the whole cluster. Whoever gets the key's lease looks for the result and does the work
 * if there is none; the others wait and look. With Redis away, or when the holder takes longer than `patienceMs`,
 * everybody does it.
 */
export async function once<T>(
  coordinator: Coordinator,
  key: string,
  patienceMs: number,
  look: () => Promise<T | undefined>,
  work: () => Promise<T>,
): Promise<T> {
  const until = performance.now() + patienceMs;
  for (let pause = firstPauseMs; ; pause = Math.min(pause * 2, longestPauseMs)) {
    const lease = await coordinator.tryLead(key);
    if (lease === undefined && performance.now() < until) {
      await sleep(pause);
      const found = await look();
      if (found !== undefined) return found;
      continue;
    }
    try {
      // Somebody may have finished between our look and our lease; alone there is nobody.
      const found = lease?.scope === 'cluster' ? await look() : undefined;
      return found ?? (await work());
    } finally {
      await lease?.release(false);
    }
  }
}
