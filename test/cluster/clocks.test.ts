import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { afterEach, describe, expect, it } from 'vitest';
import { clockOff, movableWallClock } from '../parts/clock.js';
import type { Settings } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import {
  receivesAll,
  type Replica,
  type Replicas,
  roles,
  startReplicas,
  warnings,
} from '../parts/replicas.js';
import { describeOverStores, expectUnfinished } from '../parts/stores.js';
import { patience } from '../parts/patience.js';

const apartSeconds = 300;
const size = 6 * 1024 * 1024;
const path = 'app/manifests/latest';

describeOverStores('replicas whose clocks are far apart', ['redis-server', 'faketime'], (newStore) => {
  let cluster: Replicas;
  afterEach(() => cluster[Symbol.asyncDispose]());

  /** The right clock first; in the other order the wrong one. */
  async function startPair(
    proxy: Settings,
  ): Promise<[readonly [Replica, Replica], readonly [Replica, Replica]]> {
    const env = (index: number) => (index === 0 ? {} : clockOff(apartSeconds));
    const upstream = { bytesPerSecond: 6_000_000 };
    cluster = await startReplicas({ newStore, count: 2, upstream, env, proxy });
    const [right, ahead] = [cluster.replica(0), cluster.replica(1)];
    return [
      [right, ahead],
      [ahead, right],
    ];
  }
  const gives = (replica: Replica, { manifest }: { manifest: { bytes: Buffer } }): Promise<boolean> =>
    receivesAll(replica.v2(path), manifest.bytes);

  /** When it began, by its own clock: in seconds from now. */
  function clockOf(replica: Replica): number {
    const [{ time } = { time: undefined }] = replica.logRecords();
    return (Date.parse(String(time)) - Date.now()) / 1000;
  }

  it('read each other, and believe a tag for as long as it is fresh', async () => {
    const orders = await startPair({ freshness: '2m' });
    const { upstream, replicas, store } = cluster;
    expect(clockOf(cluster.replica(1)) - clockOf(cluster.replica(0))).toBeGreaterThan(apartSeconds - 60);
    for (const [index, [leader, follower]] of orders.entries()) {
      const blob = blobOf(size, `led by ${index}`);
      const blobPath = `app/blobs/${blob.digest}`;
      upstream.addBlob('app', blob);
      const before = (await roles(replicas)).follow;
      const first = receivesAll(leader.v2(blobPath), blob.bytes);
      await upstream.until(() => upstream.bytesSent({ path: `/v2/${blobPath}` }) > 0);
      const others = [1, 2].map(() => receivesAll(follower.v2(blobPath), blob.bytes));
      expect(await Promise.all([first, ...others])).toEqual([true, true, true]);
      expect((await roles(replicas)).follow).toBe(before + 1);
      await Promise.all(replicas.map(untilIdle));
      expect(upstream.asked({ method: 'GET', path: `/v2/${blobPath}` })).toHaveLength(1);

      const image = imageOf({ layers: [randomLayer(100, `asked by ${index}`)] });
      upstream.addImage(`tags${index}`, 'latest', image);
      const tagPath = `tags${index}/manifests/latest`;
      for (const replica of [leader, follower]) {
        expect(await receivesAll(replica.v2(tagPath), image.manifest.bytes)).toBe(true);
      }
      expect(upstream.asked({ method: 'HEAD', path: `/v2/${tagPath}` })).toHaveLength(1);
    }
    expect(await store.blobs()).toHaveLength(4);
    await expectUnfinished(store);
    expect(replicas.flatMap(warnings)).toEqual([]);
  });

  it('notice a tag that moves, whoever asks first', async () => {
    const orders = await startPair({ freshness: '500ms' });
    const { upstream, replicas } = cluster;
    for (const [index, [first, second]] of orders.entries()) {
      const [old, moved] = ['old', 'new'].map((name) =>
        imageOf({ layers: [randomLayer(100, `${name} ${index}`)] }),
      );
      if (old === undefined || moved === undefined) throw new Error('two images');
      upstream.addImage('app', 'latest', old);
      await until(() => gives(first, old), patience());
      upstream.addImage('app', 'latest', moved);
      await until(() => gives(second, moved), patience());
      expect(await gives(first, moved)).toBe(true);
    }
    expect(replicas.flatMap(warnings)).toEqual([]);
  });
});

describe.skipIf(lacks('redis-server', 'faketime'))('replicas whose Redis steps back by an hour', () => {
  it('notice that a tag moves, and go on with transfers and jobs', async () => {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    const clock = await movableWallClock(join(folder.path, 'clock'));
    const { upstream, redis, replicas, replica } = cleanup.use(
      await startReplicas({
        count: 2,
        redis: { env: clock.env },
        proxy: { freshness: '1s' },
        config: () => ({ scheduler: { scrub: { schedule: '1s' } } }),
      }),
    );
    const [old, moved] = ['old', 'new'].map((name) => imageOf({ layers: [randomLayer(100, name)] }));
    if (old === undefined || moved === undefined) throw new Error('two images');
    const has = (image: typeof old) => async (): Promise<boolean> => {
      const all = replicas.map((each) => receivesAll(each.v2(path), image.manifest.bytes));
      return (await Promise.all(all)).every(Boolean);
    };
    upstream.addImage('app', 'latest', old);
    expect(await has(old)()).toBe(true);
    // As a replica leaves it that died a moment before the step.
    const dead = blobOf(100_000, 'dead leader');
    upstream.addBlob('app', dead);
    const prefix = await prefixOf(redis.client());
    await redis.client().set(`${prefix}lease:job:scrub`, 'of a dead replica', 'PX', 5_000);
    await redis.client().set(`${prefix}lease:blob:${dead.digest}`, 'of a dead replica', 'PX', 5_000);

    const timeOfRedis = async (): Promise<number> => Number((await redis.client().time())[0]);
    const before = await timeOfRedis();
    await clock.ahead(-3_600);
    await until(async () => (await timeOfRedis()) < before - 1_800, patience());
    upstream.addImage('app', 'latest', moved);
    await until(has(moved), patience());
    expect(await receivesAll(replica(0).v2(`app/blobs/${dead.digest}`), dead.bytes)).toBe(true);
    const jobs = (): Promise<number> =>
      metric(replica(0), 'cistern_job_last_run_timestamp_seconds', { name: 'scrub' });
    const last = await jobs();
    await until(async () => (await jobs()) > last, patience());
    expect(replicas.flatMap(warnings)).toEqual([]);
  });
});

async function prefixOf(client: Redis): Promise<string> {
  const [since = ''] = await client.keys('cistern:*:since');
  return since.slice(0, -'since'.length);
}
