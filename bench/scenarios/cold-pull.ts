import { LinkProxy } from '../../test/fakes/link-proxy.js';
import { type Download, download, type PullBeside } from '../download.js';
import { blobUrl, type Lab, type Pair } from '../lab.js';
import { sizeText } from '../plan.js';
import { processorTimeOf } from '../process-time.js';
import { type Measure, measureOf, type Scenario, type Side } from '../scenario.js';
import type { Server } from '../server.js';

type Upstream = Pick<Server, 'url'>;

interface ColdPull extends PullBeside {
  /** Of the mirror, in seconds, until the blob is stored. */
  readonly processor: number;
}

/**
 * One client pulls what no mirror has: as fast as this machine can, and over a link as a site has one. In each round
 * the same blob is also downloaded from the upstream itself, over the same link.
 */
export const coldPull: Scenario = {
  name: 'cold-pull',
  run: async (lab) => {
    const { largeBlob, siteLink } = lab.plan;
    const what = `cold pull of ${sizeText(largeBlob)}`;
    await using link = await LinkProxy.start({ target: lab.upstream.url, bytesPerSecond: siteLink });
    return [
      ...measures(what, await pullByTurns(lab, lab.upstream, 'near')),
      ...measures(`${what}, ${siteLink / 125_000} Mbit/s link`, await pullByTurns(lab, link, 'far')),
    ];
  },
};

async function pullByTurns(lab: Lab, upstream: Upstream, name: string): Promise<Record<Side, ColdPull[]>> {
  await using pair = await lab.startPair(upstream.url);
  const results: Record<Side, ColdPull[]> = { peer: [], cistern: [] };
  // One more at the start, which is not counted, warms the programs up.
  for (let round = -1; round < lab.plan.rounds; round += 1) {
    const { peer, cistern } = await pullByAll(lab, upstream, pair, `${name}-${round}`);
    if (round < 0) continue;
    results.peer.push(peer);
    results.cistern.push(cistern);
  }
  return results;
}

async function pullByAll(
  lab: Lab,
  upstream: Upstream,
  pair: Pair,
  name: string,
): Promise<Record<Side, ColdPull>> {
  const blob = await lab.pushBlob(lab.plan.largeBlob, `cold-${name}`);
  const timed = async (server: Upstream, headers = {}): Promise<Download> => {
    await lab.settleDisk();
    return download(blobUrl(server, blob), blob.size, lab.signal, headers);
  };
  const direct = await timed(upstream, { authorization: lab.authorization() });
  const pullThrough = async (mirror: Server): Promise<ColdPull> => {
    const before = await processorTimeOf(mirror.pid);
    const pull = await timed(mirror);
    await lab.untilStored(mirror, blob);
    return { direct, pull, processor: (await processorTimeOf(mirror.pid)) - before };
  };
  const peer = await pullThrough(pair.peer);
  return { peer, cistern: await pullThrough(pair.cistern) };
}

function measures(what: string, results: Record<Side, ColdPull[]>): Measure[] {
  return [
    measureOf({ title: `${what}, time`, unit: 's', better: 'less' }, results, ({ pull }) => pull.whole),
    measureOf(
      { title: `${what}, time over a direct download’s`, unit: '×', better: 'less', detail: true },
      results,
      ({ pull, direct }) => pull.whole / direct.whole,
    ),
    measureOf(
      { title: `${what}, first byte`, unit: 'ms', better: 'less' },
      results,
      ({ pull }) => pull.firstByte * 1000,
    ),
    measureOf(
      { title: `${what}, first byte after a direct download’s`, unit: 'ms', better: 'less', detail: true },
      results,
      ({ pull, direct }) => (pull.firstByte - direct.firstByte) * 1000,
    ),
    measureOf(
      { title: `${what}, processor time of the mirror`, unit: 's', better: 'less', detail: true },
      results,
      ({ processor }) => processor,
    ),
  ];
}
