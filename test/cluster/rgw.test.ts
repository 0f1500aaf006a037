import { join } from 'node:path';
import { ListMultipartUploadsCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Secret } from '../../src/config/secret.js';
import { blobPath } from '../../src/storage/layout.js';
import { S3BlobStore } from '../../src/storage/s3/blob-store.js';
import { Bucket } from '../../src/storage/s3/bucket.js';
import { type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import type { Settings } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { startDockerRegistry } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { busyboxImage, type Content, randomLayer } from '../parts/image.js';
import { blobOf, metric, untilIdle } from '../parts/mirror.js';
import { pushImage } from '../parts/push.js';
import { until } from '../parts/process.js';
import {
  receivesAll,
  type Replica,
  type Replicas,
  roles,
  startReplica,
  startReplicas,
} from '../parts/replicas.js';
import { S3Counter } from '../parts/s3-counter.js';

const needed = ['ceph', 'ceph-mon', 'ceph-osd', 'radosgw', 'redis-server', 'docker-registry'] as const;
const chunksize = 5 * 2 ** 20;
const patience = () => AbortSignal.timeout(30_000);

describe.skipIf(lacks(...needed))('replicas over a bucket', () => {
  let rgw: CephRgw;
  let bucket: string;

  beforeAll(async () => {
    rgw = await startCephRgw();
  });
  afterAll(async () => {
    await rgw?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    bucket = await rgw.newBucket();
  });

  const s3 = (endpoint = rgw.regionendpoint): Settings => ({
    region: rgw.region,
    regionendpoint: endpoint,
    forcepathstyle: true,
    secure: false,
    bucket,
    accesskey: rgw.accesskey,
    secretkey: rgw.secretkey,
    rootdirectory: '/',
    chunksize,
  });

  const settings = (storage: { endpoint?: string; redirect?: boolean } = {}): Settings => ({
    storage: {
      s3: s3(storage.endpoint),
      redirect: { disable: storage.redirect !== true },
      cache: { blobdescriptor: 'redis' },
    },
  });

  async function start(
    count: number,
    bytesPerSecond: number,
    storage: Parameters<typeof settings>[0] = {},
  ): Promise<Replicas & { add(): Promise<Replica> }> {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    const proxy = { spool: { directory: join(folder.path, 'spool') } };
    const options = { config: () => settings(storage), proxy };
    const started = cleanup.use(await startReplicas({ count, upstream: { bytesPerSecond }, ...options }));
    const { root, redis, upstream } = started;
    const remoteurl = upstream.url;
    const owned = cleanup.move();
    return {
      ...started,
      add: () => startReplica(owned, { ...options, root, redis, remoteurl, index: count }),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }

  const uploads = async () => {
    const { Uploads = [] } = await rgw.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    return Uploads.map(({ Key }) => Key);
  };

  const blobKeys = async () => {
    const { Contents = [] } = await rgw.client.send(new ListObjectsV2Command({ Bucket: bucket }));
    return Contents.map(({ Key = '' }) => Key).filter((key) => key.includes('/blobs/'));
  };

  /** What a start of the mirror does, with no regard to the age of an upload. */
  async function sweep(): Promise<number> {
    const connected = new Bucket({
      region: rgw.region,
      bucket,
      endpoint: rgw.regionendpoint,
      forcepathstyle: true,
      accesskey: new Secret(rgw.accesskey),
      secretkey: new Secret(rgw.secretkey),
      sessiontoken: undefined,
      rootdirectory: '',
      chunksize,
      encrypt: false,
      keyid: undefined,
      storageclass: undefined,
      objectacl: undefined,
      secure: false,
      skipverify: false,
      useragent: undefined,
      accelerate: false,
      usedualstack: false,
    });
    try {
      const observe = (): void => undefined;
      const log = pino({ level: 'silent' });
      return await new S3BlobStore({ bucket: connected, chunkSize: chunksize, log, observe }).sweepUploads(
        -60_000,
      );
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

  async function leaderOf(replicas: readonly Replica[]): Promise<Replica> {
    for (const replica of replicas) {
      if ((await metric(replica, 'cistern_transfer_roles_total', { role: 'lead' })) > 0) return replica;
    }
    throw new Error('nobody leads');
  }

  it('get one cold blob for 24 clients with one GET', async () => {
    await using stage = await start(3, 10_000_000);
    const { upstream, replicas } = stage;
    const blob = blobOf(32 * 2 ** 20, 'one transfer');
    upstream.addBlob('team/app', blob);
    const path = `team/app/blobs/${blob.digest}`;
    expect(await clients(replicas, 8, path, blob)).toEqual(Array(24).fill(true));
    expect(upstream.asked({ method: 'GET', path: `/v2/${path}` })).toHaveLength(1);
    expect(upstream.bytesSent({ path: `/v2/${path}` })).toBe(blob.size);
    expect(await roles(replicas)).toEqual({ lead: 1, follow: 2, alone: 0, takeover: 0 });
    await Promise.all(replicas.map((replica) => untilIdle(replica)));
    expect(await blobKeys()).toEqual([blobPath(blob.digest)]);
    expect(await uploads()).toEqual([]);
  });

  it('get an image of 12 layers for 100 clients with one GET each', async () => {
    await using stage = await start(4, 5_000_000);
    const { upstream, replicas } = stage;
    const layers = Array.from({ length: 12 }, (_, index) => blobOf(1_000_000, `layer ${index}`));
    const pulls = layers.map((layer) => {
      upstream.addBlob('team/app', layer);
      return clients(replicas, 25, `team/app/blobs/${layer.digest}`, layer);
    });
    expect(new Set((await Promise.all(pulls)).flat())).toEqual(new Set([true]));
    const asked = upstream.asked({ method: 'GET', path: /\/blobs\// }).map(({ path }) => path);
    expect(asked.toSorted()).toEqual(layers.map(({ digest }) => `/v2/team/app/blobs/${digest}`).toSorted());
    await Promise.all(replicas.map((replica) => untilIdle(replica)));
    expect((await blobKeys()).toSorted()).toEqual(layers.map(({ digest }) => blobPath(digest)).toSorted());
    expect(await uploads()).toEqual([]);
  });

  it('lose Redis in the middle: clients notice nothing, and the bucket has one blob', async () => {
    await using stage = await start(3, 10_000_000);
    const { upstream, redis, replicas } = stage;
    const blob = blobOf(24 * 2 ** 20, 'without Redis');
    upstream.addBlob('team/app', blob);
    const path = `team/app/blobs/${blob.digest}`;
    const pulls = clients(replicas, 4, path, blob);
    await upstream.until(() => upstream.bytesSent({ path: `/v2/${path}` }) > blob.size / 2);
    await redis.kill();
    expect(await pulls).toEqual(Array(12).fill(true));
    expect(upstream.asked({ method: 'GET', path: `/v2/${path}` }).length).toBeLessThanOrEqual(3);
    await Promise.all(replicas.map((replica) => untilIdle(replica)));
    expect(await blobKeys()).toEqual([blobPath(blob.digest)]);
    expect(await uploads()).toEqual([]);
    expect(await clients(replicas, 1, path, blob)).toEqual([true, true, true]);
  });

  it('lose the leader in the middle: the others end the blob, and its upload is swept', async () => {
    await using stage = await start(3, 10_000_000);
    const { upstream, replicas } = stage;
    const blob = blobOf(32 * 2 ** 20, 'leader killed');
    upstream.addBlob('team/app', blob);
    const path = `team/app/blobs/${blob.digest}`;
    const sent = () => upstream.bytesSent({ path: `/v2/${path}` });
    const pulls = new Map(
      replicas.map((replica) => [replica, clients([replica], 4, path, blob).catch(() => 'cut' as const)]),
    );
    await upstream.until(() => sent() > blob.size / 2);
    const leader = await leaderOf(replicas);
    leader.kill('SIGKILL');
    const others = replicas.filter((replica) => replica !== leader);
    for (const other of others) expect(await pulls.get(other)).toEqual([true, true, true, true]);
    expect(await pulls.get(leader)).toBe('cut');
    expect(sent()).toBeLessThanOrEqual(1.1 * blob.size);
    await Promise.all(others.map((replica) => untilIdle(replica)));
    expect(await blobKeys()).toEqual([blobPath(blob.digest)]);
    expect(await uploads()).toEqual([blobPath(blob.digest)]); // the dead leader's
    expect(await sweep()).toBe(1);
    expect(await uploads()).toEqual([]);
    expect(await clients(others, 1, path, blob)).toEqual([true, true]);
  });

  it('lose the gateway in the middle: clients notice nothing, and nothing half-written stays', async () => {
    await using stage = await start(3, 10_000_000);
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
    expect(await blobKeys()).toEqual([]);
    await sweep();
    expect(await uploads()).toEqual([]);
    expect(await clients(replicas, 1, path(during), during)).toEqual([true, true, true]);
    await Promise.all(replicas.map((replica) => untilIdle(replica)));
    expect(await blobKeys()).toEqual([blobPath(during.digest)]);
  });

  it.each([true, false])(
    'ask it for little when another one has stored all (redirects: %s)',
    async (redirect) => {
      await using counter = await S3Counter.start(rgw.regionendpoint);
      await using stage = await start(1, 100_000_000, { endpoint: counter.url, redirect });
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
        return counter.requests.map((request) => request.method);
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
      expect(counter.requests.map(({ method }) => method)).toEqual(['GET']);
    },
  );

  it("take registry:2's bucket as it is", async () => {
    const image = busyboxImage({ layers: [randomLayer(6_000_000, 'theirs')] });
    {
      await using registry = await startDockerRegistry({ s3: s3() });
      await pushImage({ url: registry.url, repository: 'team/theirs' }, 'v1', image);
    }
    await using stage = await start(2, 10_000_000);
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
