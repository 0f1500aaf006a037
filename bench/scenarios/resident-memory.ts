import { blobUrl, type Lab, manifestUrl } from '../lab.js';
import { loadGet } from '../load.js';
import { memoryOf } from '../process-memory.js';
import { sizeText } from '../plan.js';
import { byTurns, measureOf, type Scenario } from '../scenario.js';

interface Memory {
  readonly idle: number;
  readonly after: number;
  readonly peak: number;
}

const mebibyte = 1024 * 1024;

/** What a mirror takes, from its start through a cold pull and loads of every kind. */
export const residentMemory: Scenario = {
  name: 'memory',
  run: async (lab) => {
    const { manifest } = await lab.pushImage('memory');
    const results = await byTurns(lab.plan.rounds, (side, round) =>
      takeThrough(lab, side, round, manifest.digest),
    );
    const what = `resident memory (cold ${sizeText(lab.plan.largeBlob)} pull, then loads)`;
    const row = (title: string, value: (memory: Memory) => number, detail = false) =>
      measureOf(
        { title: `${what}: ${title}`, unit: 'MiB', better: 'less', detail },
        results,
        (it) => value(it) / mebibyte,
      );
    return [
      row('idle after the start', ({ idle }) => idle),
      row('after the load', ({ after }) => after, true),
      row('peak', ({ peak }) => peak),
    ];
  },
};

async function takeThrough(
  lab: Lab,
  side: 'peer' | 'cistern',
  round: number,
  manifest: string,
): Promise<Memory> {
  const { plan, signal, upstream } = lab;
  const load = { seconds: Math.ceil(plan.seconds / 2), connections: plan.connections };
  const small = await lab.pushBlob(plan.smallBlob, 'memory-small');
  const large = await lab.pushBlob(plan.largeBlob, `memory-${side}-${round}`);
  await using mirror = await lab.startMirror(side, upstream.url);
  const { resident: idle } = await memoryOf(mirror.pid);
  await lab.pullBlob(mirror, large);
  await lab.pullBlob(mirror, small);
  for (const url of [manifestUrl(mirror, 'memory'), manifestUrl(mirror, manifest), blobUrl(mirror, small)]) {
    await loadGet(url, load, signal);
  }
  await loadGet(blobUrl(mirror, large), load, signal);
  const { resident: after, peak } = await memoryOf(mirror.pid);
  return { idle, after, peak };
}
