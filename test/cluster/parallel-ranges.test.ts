import { describe, expect, it } from 'vitest';
import { blobOf, metric, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { lacks } from '../parts/debian.js';
import { receivesAll, roles, startReplicas } from '../parts/replicas.js';
import { patience } from '../parts/patience.js';

const MiB = 1024 * 1024;
const size = 40 * MiB;
const connections = 3;

describe.skipIf(lacks('redis-server'))('parallel ranges with several replicas', () => {
  it('go on from the byte that was reached when the replica that fetches is killed', async () => {
    await using cluster = await startReplicas({
      count: 2,
      upstream: { bytesPerSecond: 6_000_000 },
      proxy: { ranges: { connections, minsize: '8MiB' } },
    });
    const [leader, follower] = [cluster.replica(0), cluster.replica(1)];
    const blob = blobOf(size, 'taken over');
    const path = `team/blobs/${blob.digest}`;
    cluster.upstream.addBlob('team', blob);
    const sent = (): number => cluster.upstream.bytesSent({ path: `/v2/${path}` });
    const starts = (): number[] =>
      cluster.upstream
        .asked({ method: 'GET', path: `/v2/${path}` })
        .map(({ headers }) => Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1]));

    const first = receivesAll(leader.v2(path), blob.bytes).catch(() => false); // goes down with its replica
    await cluster.upstream.until(() => sent() > 0);
    const other = receivesAll(follower.v2(path), blob.bytes);
    await until(async () => (await roles([follower])).follow === 1, patience());
    await cluster.upstream.until(() => sent() >= size / 2);
    const asked = starts().length;
    leader.kill('SIGKILL');

    expect(await Promise.all([first, other])).toEqual([false, true]);
    const again = starts().slice(asked);
    expect(Math.min(...again)).toBeGreaterThan(0);
    expect(again.length).toBeGreaterThan(2);
    // What was ahead in the leader's memory is fetched again, and what was on its way between the two.
    expect(sent()).toBeLessThanOrEqual(size + (connections + 1) * 4 * MiB);
    await untilIdle(follower);
    expect(await metric(follower, 'cistern_upstream_ranges_total', { event: 'begun' })).toBe(1);
    expect(await cluster.store.blobs()).toEqual([blob.digest]);
  });
});
