import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { receive, SlowClient } from '../fakes/slow-client.js';
import { contentOf } from '../parts/image.js';
import { blobOf, expectSpecError, metric, sha256, untilIdle } from '../parts/mirror.js';
import { smallDisk } from '../parts/mounts.js';
import { until } from '../parts/process.js';
import { receivesAll, type Replica, roles, startReplicas } from '../parts/replicas.js';
import { describeOverStores, expectUnfinished } from '../parts/stores.js';
import { patience } from '../parts/patience.js';

const MiB = 1024 * 1024;
const size = 96 * MiB;
const room = size + 16 * MiB;

const memoryOf = (replicas: readonly Replica[]): Promise<number[]> =>
  Promise.all(replicas.map((replica) => metric(replica, 'process_resident_memory_bytes')));

describeOverStores("the leader's disk for spools is full", ['redis-server', 'root'], (newStore) => {
  it('in the middle of a blob: its readers and the other replicas go on, and the store gets it from them', async () => {
    await using disk = await smallDisk(room);
    await using cluster = await startReplicas({
      newStore,
      count: 3,
      upstream: { bytesPerSecond: 25_000_000 },
      config: (index) => (index === 0 ? { proxy: { spool: { directory: disk.path } } } : {}),
    });
    const { upstream, replicas, replica, store } = cluster;
    const [leader, followers] = [replica(0), [replica(1), replica(2)]];
    const blob = contentOf('application/octet-stream', randomBytes(size));
    const path = `full/blobs/${blob.digest}`;
    const other = blobOf(4 * MiB, 'other');
    const otherPath = `full/blobs/${other.digest}`;
    for (const each of [blob, other]) upstream.addBlob('full', each);
    const twice = (each: Replica) => [1, 2].map(() => receivesAll(each.v2(path), blob.bytes));

    // Some clients at each of them, and one at the leader that does not read on.
    const go = Promise.withResolvers<void>();
    upstream.fault({ method: 'GET', path: `/v2/${path}`, nth: 1 }, { stallAt: 8 * MiB, until: go.promise });
    using slow = new SlowClient(leader.v2(path), { pauseAfter: 4 * MiB });
    await slow.received(4 * MiB);
    const reading = replicas.flatMap(twice);
    await until(async () => (await roles(followers)).follow === followers.length, patience());
    await upstream.until(() => upstream.bytesSent({ path: `/v2/${path}` }) >= 8 * MiB);
    const before = await memoryOf(replicas);

    const ballast = join(disk.path, 'ballast');
    await expect(writeFile(ballast, Buffer.alloc(room))).rejects.toMatchObject({ code: 'ENOSPC' });
    go.resolve();
    await until(() => leader.log().includes('passing the rest on unstored'), patience());
    // The leader takes nobody in before the store has the blob; elsewhere all is as ever.
    const late = await receive(leader.v2(path));
    expect(['503', `200 ${sha256(blob.bytes)}`]).toContain(
      late.status === 503 ? '503' : `${late.status} ${late.sha256}`,
    );
    await expectSpecError(await fetch(leader.v2(otherPath)), 503, 'UNAVAILABLE');
    reading.push(...followers.flatMap(twice));
    for (const each of followers) expect(await receivesAll(each.v2(otherPath), other.bytes)).toBe(true);

    expect(await Promise.all(reading)).toEqual(Array(10).fill(true));
    for (const [index, bytes] of (await memoryOf(replicas)).entries()) {
      expect(bytes - (before[index] ?? 0)).toBeLessThan(size);
    }
    expect(upstream.asked({ method: 'GET', path: `/v2/${path}` })).toHaveLength(1);
    await Promise.all(replicas.map(untilIdle));
    expect((await store.blobs()).toSorted()).toEqual([blob.digest, other.digest].toSorted());
    await expectUnfinished(store);

    // Who kept the others waiting was cut off, and goes on from there.
    slow.resume();
    const { end, bytes } = await slow.finished;
    expect(end).not.toBe('complete');
    const rest = await receive(leader.v2(path), { headers: { range: `bytes=${bytes}-` } });
    expect(rest).toMatchObject({ status: 206, end: 'complete', sha256: sha256(blob.bytes.subarray(bytes)) });

    await rm(ballast);
    const next = blobOf(4 * MiB, 'next');
    upstream.addBlob('full', next);
    expect(await receivesAll(leader.v2(`full/blobs/${next.digest}`), next.bytes)).toBe(true);
  });
});
