import { LinkProxy } from '../../test/fakes/link-proxy.js';
import { download, type PullBeside } from '../download.js';
import { blobUrl, type Lab } from '../lab.js';
import { sizeText } from '../plan.js';
import { byTurns, measureOf, type Scenario } from '../scenario.js';
import type { Server } from '../server.js';

/**
 * One client pulls what no mirror has from an upstream that limits each connection; Cistern with `proxy.ranges`. In each
 * turn another blob of the same size is downloaded over the same link directly.
 */
export const parallelRanges: Scenario = {
  name: 'parallel-ranges',
  run: async (lab) => {
    const { connectionRate, rangeConnections, rangesBlob, rounds } = lab.plan;
    const target = lab.upstream.url;
    await using link = await LinkProxy.start({ target, connectionBytesPerSecond: connectionRate });
    await using pair = await lab.startPair(link.url, { ranges: { connections: rangeConnections } });
    const results = await byTurns(rounds, (side, round) =>
      pullBeside(lab, pair[side], link, `ranges-${side}-${round}`),
    );
    const what = `cold pull of ${sizeText(rangesBlob)}, ${connectionRate / 1_000_000} MB/s for each connection, ${rangeConnections} in parallel`;
    return [
      measureOf({ title: `${what}: time`, unit: 's', better: 'less' }, results, ({ pull }) => pull.whole),
      measureOf(
        { title: `${what}: times as fast as a direct download`, unit: '×', better: 'more' },
        results,
        ({ pull, direct }) => direct.whole / pull.whole,
      ),
      measureOf(
        { title: `${what}: first byte`, unit: 'ms', better: 'less' },
        results,
        ({ pull }) => pull.firstByte * 1000,
      ),
      measureOf(
        { title: `${what}: first byte of a direct download`, unit: 'ms', better: 'less' },
        results,
        ({ direct }) => direct.firstByte * 1000,
      ),
    ];
  },
};

async function pullBeside(lab: Lab, mirror: Server, link: LinkProxy, seed: string): Promise<PullBeside> {
  const blob = await lab.pushBlob(lab.plan.rangesBlob, seed);
  await lab.settleDisk();
  const direct = await download(blobUrl(link, blob), blob.size, lab.signal, {
    authorization: lab.authorization(),
  });
  await lab.settleDisk();
  const pull = await download(blobUrl(mirror, blob), blob.size, lab.signal);
  await lab.untilStored(mirror, blob);
  return { direct, pull };
}
