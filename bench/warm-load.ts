import type { Content } from '../test/parts/image.js';
import type { Lab } from './lab.js';
import { type Load, loadGet, loadHead } from './load.js';
import { processorTimeOf } from './process-time.js';
import { byTurns, type Measure, measureOf, type Side, sides } from './scenario.js';
import type { Server } from './server.js';

/** A turn of load, with the processor time that the server spent on it, in seconds. */
export interface WarmLoad extends Load {
  readonly processorSeconds: number;
}

/** The rate at which cached content is asked for and answered. `blob`: pulled first, where it is one. */
export async function requestRate(
  lab: Lab,
  what: string,
  method: 'GET' | 'HEAD',
  urlOf: (mirror: Server) => string,
  blob?: Content,
): Promise<Measure[]> {
  const results = await warmLoad(lab, method, urlOf, blob);
  const title = `${what}, cached`;
  return [
    measureOf(
      { title, unit: 'requests/s', better: 'more' },
      results,
      ({ requestsPerSecond }) => requestsPerSecond,
    ),
    measureOf(
      { title: `${title}: processor time of each`, unit: 'µs', better: 'less', detail: true },
      results,
      ({ processorSeconds, requests }) => (processorSeconds / requests) * 1_000_000,
    ),
  ];
}

/** The same load on a fresh pair by turns, after both have the content and have been warmed up. */
export async function warmLoad(
  lab: Lab,
  method: 'GET' | 'HEAD',
  urlOf: (mirror: Server) => string,
  blob?: Content,
  connections = lab.plan.connections,
): Promise<Record<Side, WarmLoad[]>> {
  const { plan, signal } = lab;
  await using pair = await lab.startPair();
  const load = method === 'GET' ? loadGet : loadHead;
  for (const side of sides) {
    if (blob !== undefined) await lab.pullBlob(pair[side], blob);
    await load(urlOf(pair[side]), { seconds: plan.warmUpSeconds, connections }, signal);
  }
  await lab.settleDisk();
  // Awaited here: the pair ends with this function.
  return await byTurns(plan.rounds, async (side) => {
    const before = await processorTimeOf(pair[side].pid);
    const result = await load(urlOf(pair[side]), { seconds: plan.seconds, connections }, signal);
    return { ...result, processorSeconds: (await processorTimeOf(pair[side].pid)) - before };
  });
}
