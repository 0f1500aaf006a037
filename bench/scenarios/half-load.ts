import { manifestUrl } from '../lab.js';
import { latencyAt, loadGet } from '../load.js';
import { byTurns, measureOf, type Scenario, type Side, sides } from '../scenario.js';

/** How long clients wait for a server that is busy, but not with more than it can do: half of what it can. */
export const halfLoad: Scenario = {
  name: 'half-load',
  run: async (lab) => {
    await lab.pushImage('half');
    const { plan, signal } = lab;
    await using pair = await lab.startPair();
    const { connections } = plan;
    const urlOf = (side: Side): string => manifestUrl(pair[side], 'half');
    const rates: Record<Side, number> = { peer: 0, cistern: 0 };
    for (const side of sides) {
      await loadGet(urlOf(side), { seconds: plan.warmUpSeconds, connections }, signal);
      const { requestsPerSecond } = await loadGet(
        urlOf(side),
        { seconds: plan.seconds, connections },
        signal,
      );
      rates[side] = requestsPerSecond / 2;
    }
    const results = await byTurns(plan.rounds, (side) =>
      latencyAt(urlOf(side), rates[side], { seconds: plan.seconds, connections }, signal),
    );
    const title = 'GET manifest by tag, cached, at half of what each can do, 99 of 100 within';
    return [measureOf({ title, unit: 'ms', better: 'less' }, results, (milliseconds) => milliseconds)];
  },
};
