import { type Download, download } from '../download.js';
import { blobUrl, type Lab, type Pair } from '../lab.js';
import { sizeText } from '../plan.js';
import { type Measure, measureOf, type Scenario, type Side } from '../scenario.js';
import type { Server } from '../server.js';

interface Turn {
  readonly direct: Download;
  readonly pull: Download;
}

/** One client pulls what no mirror has. In each round the same blob is also downloaded from the upstream itself. */
export const coldPull: Scenario = {
  name: 'cold-pull',
  run: async (lab) => {
    await using pair = await lab.startPair();
    const results: Record<Side, Turn[]> = { peer: [], cistern: [] };
    // One more at the start, which is not counted, warms the programs up.
    for (let round = -1; round < lab.plan.rounds; round += 1) {
      const { peer, cistern } = await pullByAll(lab, pair, round);
      if (round < 0) continue;
      results.peer.push(peer);
      results.cistern.push(cistern);
    }
    return measures(`cold pull of ${sizeText(lab.plan.largeBlob)}`, results);
  },
};

async function pullByAll(lab: Lab, pair: Pair, round: number): Promise<Record<Side, Turn>> {
  const blob = await lab.pushBlob(lab.plan.largeBlob, `cold-${round}`);
  const timed = async (server: Server, headers = {}): Promise<Download> => {
    await lab.settleDisk();
    return download(blobUrl(server, blob), blob.size, lab.signal, headers);
  };
  const direct = await timed(lab.upstream, { authorization: lab.authorization() });
  const peer = await timed(pair.peer);
  await lab.untilStored(pair.peer, blob);
  const cistern = await timed(pair.cistern);
  await lab.untilStored(pair.cistern, blob);
  return { peer: { direct, pull: peer }, cistern: { direct, pull: cistern } };
}

function measures(what: string, results: Record<Side, Turn[]>): Measure[] {
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
      { title: `${what}, first byte over a direct download’s`, unit: '×', better: 'less', detail: true },
      results,
      ({ pull, direct }) => pull.firstByte / direct.firstByte,
    ),
  ];
}
