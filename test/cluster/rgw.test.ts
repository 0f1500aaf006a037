import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { S3BlobStore } from '../../src/storage/s3/blob-store.js';
import { Bucket } from '../../src/storage/s3/bucket.js';
import { cephParts, type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import { lacks } from '../parts/debian.js';
import { startDockerRegistry } from '../parts/docker-registry.js';
import { busyboxImage, type Content, randomLayer } from '../parts/image.js';
import { blobOf, metric, untilIdle } from '../parts/mirror.js';
import { pushImage } from '../parts/push.js';
import { until } from '../parts/process.js';
import { receivesAll, type Replica, startReplicas } from '../parts/replicas.js';
import { S3Counter } from '../parts/s3-counter.js';
import { expectUnfinished, newBucket } from '../parts/stores.js';
import { patience } from '../parts/patience.js';

/** What replicas over a bucket share with others is tested where both are; here is what a bucket alone may do. */
describe.skipIf(lacks('redis-server', 'docker-registry', ...cephParts))('replicas over a bucket', () => {
  let rgw: CephRgw;

  beforeAll(async () => {
    rgw = await startCephRgw();
  });
  afterAll(async () => {
    await rgw?.[Symbol.asyncDispose]();
  });

  /** What a start of the mirror does, with no regard to the age of an upload. */
  async function sweep(bucket: string): Promise<void> {
    const config = rgw.config(bucket);
    const log = pino({ level: 'silent' });
    const connected = new Bucket(config, log);
    try {
      const observe = (): void => undefined;
      const store = new S3BlobStore({
        bucket: connected,
        chunkSize: config.chunksize,
        youngMs: 0,
        log,
        observe,
      });
      await store.sweepUploads(-60_000);
    } finally {
      connected.close();
    }
  }

  /** So many clients at each of the replicas; how many of them got the blob whole and right. */
  function clients(
    replicas: readonly Replica[],
    each: number,
    path: string,
    blob: Content,
  ): Promise<boolean[]> {
    const urls = replicas.flatMap((replica) => Array.from({ length: each }, () => replica.v2(path)));
    return Promise.all(urls.map((url) => receivesAll(url, blob.bytes)));
  }

  it('lose the gateway in the middle: clients notice nothing, and nothing half-written stays', async () => {
    const store = await newBucket(rgw);
    await using stage = await startReplicas({
      newStore: () => Promise.resolve(store),
      count: 3,
      upstream: { bytesPerSecond: 10_000_000 },
    });
    const { upstream, replicas } = stage;
    const during = blobOf(24 * 2 ** 20, 'during');
    const cold = blobOf(1_000_000, 'cold');
    for (const blob of [during, cold]) upstream.addBlob('team/app', blob);
    const path = ({ digest }: Content) => `team/app/blobs/${digest}`;
    const pulls = clients(replicas, 4, path(during), during);
    await upstream.until(() => upstream.bytesSent({ path: `/v2/${path(during)}` }) > during.size / 2);
    await rgw.stopGateway();
    try {
      expect(await pulls).toEqual(Array(12).fill(true));
      expect(upstream.asked({ method: 'GET', path: `/v2/${path(during)}` })).toHaveLength(1);
      expect(await clients(replicas, 1, path(cold), cold)).toEqual([true, true, true]);
      await Promise.all(replicas.map((replica) => untilIdle(replica)));
      const failed = replicas.map((replica) =>
        metric(replica, 'cistern_transfers_total', { result: 'store' }),
      );
      expect((await Promise.all(failed)).reduce((sum, count) => sum + count)).toBeGreaterThan(0);
    } finally {
      await rgw.startGateway();
    }
    expect(await store.blobs()).toEqual([]);
    await sweep(store.bucket);
    await expectUnfinished(store);
    expect(await clients(replicas, 1, path(during), during)).toEqual([true, true, true]);
    await Promise.all(replicas.map((replica) => untilIdle(replica)));
    expect(await store.blobs()).toEqual([during.digest]);
  });

  it.each([true, false])(
    'ask it for little when another one has stored all (redirects: %s)',
    async (redirect) => {
      await using counter = await S3Counter.start(rgw.regionendpoint);
      const newStore = () => newBucket(rgw, { endpoint: counter.url, redirect });
      // Jobs and records of uses ask the bucket too, but not for a request.
      const config = () => ({ scheduler: { enabled: false } });
      await using stage = await startReplicas({ newStore, count: 1, config });
      const asked = (): string[] =>
        counter.requests
          .filter(({ path }) => path.includes('/docker/registry/v2/'))
          .map(({ method }) => method);
      const image = busyboxImage();
      stage.upstream.addImage('team/app', 'v1', image);
      const blob = `team/app/blobs/${image.config.digest}`;
      const byDigest = `team/app/manifests/${image.manifest.digest}`;
      const byTag = 'team/app/manifests/v1';
      const first = stage.replica(0);
      for (const path of [byTag, blob]) expect((await fetch(first.v2(path))).status).toBe(200);
      await untilIdle(first);
      const stored = async () => (await stage.redis.client().keys('*:descriptor:*')).length === 2;
      await until(stored, patience());
      const fresh = await stage.add();
      const requests = async (path: string, method = 'GET'): Promise<string[]> => {
        counter.requests.length = 0;
        const response = await fetch(fresh.v2(path), { method, redirect: 'manual' });
        await response.bytes();
        expect(response.ok || response.status === 307).toBe(true);
        return asked();
      };
      // Its memory is empty: what it need not ask the bucket, Redis told it.
      expect(await requests(blob, 'HEAD')).toEqual([]);
      expect(await requests(blob)).toEqual([redirect ? 'HEAD' : 'GET']); // with redirects: the minting
      expect(await requests(blob)).toEqual(redirect ? [] : ['GET']);
      expect(await requests(byTag)).toEqual(['GET']);
      expect(await requests(byTag)).toEqual([]);
      expect(await requests(byDigest)).toEqual([]);
      expect(await requests(byDigest, 'HEAD')).toEqual([]);
      const second = await stage.add();
      counter.requests.length = 0;
      expect((await fetch(second.v2(byDigest))).status).toBe(200);
      expect(asked()).toEqual(['GET']);
    },
  );

  it("take registry:2's bucket as it is", async () => {
    const image = busyboxImage({ layers: [randomLayer(6_000_000, 'theirs')] });
    const store = await newBucket(rgw);
    {
      await using registry = await startDockerRegistry({ s3: store.s3 });
      await pushImage({ url: registry.url, repository: 'team/theirs' }, 'v1', image);
    }
    await using stage = await startReplicas({ newStore: () => Promise.resolve(store), count: 2 });
    await stage.upstream.down();
    for (const content of [image.config, ...image.layers]) {
      const path = `team/theirs/blobs/${content.digest}`;
      expect(await clients(stage.replicas, 2, path, content)).toEqual([true, true, true, true]);
    }
    expect(await clients(stage.replicas, 2, 'team/theirs/manifests/v1', image.manifest)).toEqual([
      true,
      true,
      true,
      true,
    ]);
  });
});
