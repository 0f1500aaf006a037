import { readFile } from 'node:fs/promises';
import { LinkProxy } from '../../test/fakes/link-proxy.js';
import type { Content } from '../../test/parts/image.js';
import { download } from '../download.js';
import { blobUrl, type Lab } from '../lab.js';
import { sizeText } from '../plan.js';
import { byTurns, measureOf, type Scenario } from '../scenario.js';
import type { Server } from '../server.js';

interface Herd {
  /** Until the last client has everything. */
  readonly seconds: number;
  /** Of what one client needs over the same link alone. */
  readonly ofDirect: number;
  readonly upstreamGets: number;
  readonly upstreamBytes: number;
}

/** Many clients at once want a blob that the mirror does not have, over a link that has a rate. */
export const herd: Scenario = {
  name: 'herd',
  run: async (lab) => {
    const { plan } = lab;
    await using upstream = await lab.startLoggingUpstream();
    await using link = await LinkProxy.start({ target: upstream.url, bytesPerSecond: plan.herdLink });
    await using pair = await lab.startPair(link.url);
    const results = await byTurns(plan.rounds, async (side, round) => {
      const blob = await lab.pushBlob(plan.herdBlob, `herd-${side}-${round}`);
      await lab.settleDisk();
      return pullTogether(lab, pair[side], blob, upstream, link);
    });
    const what = `${plan.herdClients} clients on a cold ${sizeText(plan.herdBlob)} blob, ${plan.herdLink / 1_000_000} MB/s link`;
    return [
      measureOf(
        { title: `${what}: upstream GETs`, unit: '', better: 'less', detail: true },
        results,
        (it) => it.upstreamGets,
      ),
      measureOf(
        { title: `${what}: bytes over the link, of the blob’s size`, unit: '×', better: 'less' },
        results,
        (it) => it.upstreamBytes / plan.herdBlob,
      ),
      measureOf(
        { title: `${what}: time until all have it`, unit: 's', better: 'less' },
        results,
        (it) => it.seconds,
      ),
      measureOf(
        { title: `${what}: that time, of one direct download’s`, unit: '×', better: 'less', detail: true },
        results,
        (it) => it.ofDirect,
      ),
    ];
  },
};

async function pullTogether(
  lab: Lab,
  mirror: Server,
  blob: Content,
  upstream: Server,
  link: LinkProxy,
): Promise<Herd> {
  const direct = await download(blobUrl(link, blob), blob.size, lab.signal, {
    authorization: lab.authorization(),
  });
  const bytesBefore = link.bytesDown;
  const started = performance.now();
  const clients = Array.from({ length: lab.plan.herdClients }, () =>
    download(blobUrl(mirror, blob), blob.size, lab.signal),
  );
  await Promise.all(clients);
  const seconds = (performance.now() - started) / 1000;
  await lab.untilStored(mirror, blob);
  return {
    seconds,
    ofDirect: seconds / direct.whole,
    upstreamGets: (await countGets(upstream, blob)) - 1, // the direct one
    upstreamBytes: link.bytesDown - bytesBefore,
  };
}

async function countGets({ logFile }: Server, { digest }: Content): Promise<number> {
  const log = await readFile(logFile, 'utf8');
  return log
    .split('\n')
    .filter((line) => line.includes('"GET /v2/') && line.includes(`/blobs/${digest} HTTP`)).length;
}
