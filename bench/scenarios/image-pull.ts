import { skopeoCopy } from '../../test/parts/skopeo.js';
import { type Lab, repository } from '../lab.js';
import { sizeText } from '../plan.js';
import { byTurns, measureOf, type Scenario, type Side, sides } from '../scenario.js';
import type { Server } from '../server.js';

/** In seconds. */
interface ImagePull {
  readonly direct: number;
  readonly through: number;
}

/**
 * A client that nodes have (skopeo pulls as podman and CRI-O do: it hashes and writes what it reads) pulls an image with
 * one layer that no mirror has, as fast as this machine can. In each turn it pulls the like of it from the upstream too.
 */
export const imagePull: Scenario = {
  name: 'image-pull',
  run: async (lab) => {
    const { rounds, largeBlob } = lab.plan;
    await using pair = await lab.startPair();
    const turn = (side: Side, name: string) => pullBeside(lab, pair[side], `image-${side}-${name}`);
    for (const side of sides) await turn(side, 'warm-up'); // not counted: code is compiled
    const results = await byTurns(rounds, (side, round) => turn(side, `${round}`));
    const what = `cold pull of an image of ${sizeText(largeBlob)} by skopeo`;
    return [
      measureOf({ title: `${what}, time`, unit: 's', better: 'less' }, results, ({ through }) => through),
      measureOf(
        { title: `${what}, time over a direct pull’s`, unit: '×', better: 'less' },
        results,
        ({ direct, through }) => through / direct,
      ),
    ];
  },
};

async function pullBeside(lab: Lab, mirror: Server, tag: string): Promise<ImagePull> {
  const layer = await lab.pushLargeImage(tag);
  const direct = await pull(lab, lab.upstream, tag, ['--src-creds', lab.credentials]);
  const through = await pull(lab, mirror, tag);
  await lab.untilStored(mirror, layer);
  return { direct, through };
}

async function pull(lab: Lab, { url }: Server, tag: string, args: readonly string[] = []): Promise<number> {
  await lab.settleDisk();
  const started = performance.now();
  let ended = NaN;
  const { code, stderr } = await skopeoCopy(`${new URL(url).host}/${repository}:${tag}`, args, () => {
    ended = performance.now();
  });
  if (code !== 0) throw new Error(`skopeo did not pull from ${url}: ${stderr}`);
  return (ended - started) / 1000;
}
