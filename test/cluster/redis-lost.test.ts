import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { LinkProxy } from '../fakes/link-proxy.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import type { Content } from '../parts/image.js';
import { blobOf, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { startRedis } from '../parts/redis.js';
import {
  receivesAll,
  type Replica,
  type Replicas,
  roles,
  startReplica,
  startReplicas,
  warnings,
} from '../parts/replicas.js';
import { describeOverStores, expectUnfinished } from '../parts/stores.js';
import { patience } from '../parts/patience.js';

// By its half a bucket has been given a part of it.
const size = 12 * 1024 * 1024;

describeOverStores('rule 3: Redis is lost', ['redis-server'], (newStore) => {
  let cluster: Replicas;
  beforeEach(async () => {
    cluster = await startReplicas({ newStore, count: 3, upstream: { bytesPerSecond: 6_000_000 } });
  });
  afterEach(() => cluster[Symbol.asyncDispose]());

  function newBlob(seed: string, bytes = size): Content {
    const blob = blobOf(bytes, seed);
    cluster.upstream.addBlob('app', blob);
    return blob;
  }
  // GETs: a replica that sees another's blob just before its link asks with HEAD whether it may be served.
  const asked = ({ digest }: Content) =>
    cluster.upstream.asked({ method: 'GET', path: `/v2/app/blobs/${digest}` });
  const sent = ({ digest }: Content) => cluster.upstream.bytesSent({ path: `/v2/app/blobs/${digest}` });
  const readAll = ({ digest, bytes }: Content, clients = 12): Promise<boolean[]> =>
    Promise.all(
      Array.from({ length: clients }, (_, n) =>
        receivesAll(cluster.replica(n % 3).v2(`app/blobs/${digest}`), bytes),
      ),
    );
  const right = (clients = 12) => Array.from({ length: clients }, () => true);
  const saying = (replica: Replica, msg: string) =>
    replica.logRecords().filter((record) => record['msg'] === msg);
  const idle = () => Promise.all(cluster.replicas.map(untilIdle));

  it('in the middle of a transfer: nobody notices, it is said once, and Redis is used again when it is back', async () => {
    const { redis, upstream, replicas, store } = cluster;
    const first = newBlob('first');
    const reading = readAll(first);
    await upstream.until(() => sent(first) > size / 2);
    await redis.kill();
    expect(await reading).toEqual(right());
    await idle();
    expect(asked(first).length).toBeLessThanOrEqual(3);

    // Without it each replica fetches for itself, once.
    const second = newBlob('second', 500_000);
    expect(await readAll(second)).toEqual(right());
    await idle();
    expect(asked(second).length).toBeLessThanOrEqual(3);
    for (const replica of replicas) {
      await expect
        .poll(() => warnings(replica))
        .toMatchObject([{ msg: 'redis cannot be used, going on without it' }]);
    }

    await redis.start();
    const again = (replica: Replica): boolean => saying(replica, 'redis is used again').length === 1;
    await until(() => replicas.every(again), patience());
    const before = await roles(replicas);
    const third = newBlob('third', 1_000_000);
    expect(await readAll(third)).toEqual(right());
    await idle();
    expect(asked(third)).toHaveLength(1);
    const after = await roles(replicas);
    expect({ lead: after.lead - before.lead, alone: after.alone - before.alone }).toEqual({
      lead: 1,
      alone: 0,
    });
    // A stored blob's descriptor is shared again.
    expect(await readAll(third, 3)).toEqual(right(3));
    const descriptors = () => redis.client().keys(`*descriptor:*${third.digest}`);
    await until(async () => (await descriptors()).length === 1, patience());
    expect(await store.blobs()).toHaveLength(3);
    await expectUnfinished(store);
  });

  it('before anything is pulled: replicas serve, and use it when it comes back', async () => {
    const { redis, replicas } = cluster;
    await redis.kill();
    await Promise.all(
      replicas.map((replica) =>
        until(() => saying(replica, 'redis cannot be used, going on without it').length === 1, patience()),
      ),
    );
    const cold = newBlob('cold', 500_000);
    expect(await readAll(cold)).toEqual(right());
    expect(asked(cold).length).toBeLessThanOrEqual(3);
    await redis.start();
    await until(
      () => replicas.every((replica) => saying(replica, 'redis is used again').length === 1),
      patience(),
    );
    const next = newBlob('next', 500_000);
    expect(await readAll(next)).toEqual(right());
    expect(asked(next)).toHaveLength(1);
  });

  it('FLUSHALL under load: no client error, at most one more transfer for each replica', async () => {
    const { redis, upstream, replicas, store } = cluster;
    const warm = newBlob('warm', 500_000);
    expect(await readAll(warm)).toEqual(right());
    const cold = newBlob('flushed');
    const reading = Promise.all(
      [0, 1].map((n) => receivesAll(cluster.replica(n).v2(`app/blobs/${cold.digest}`), cold.bytes)),
    );
    await upstream.until(() => sent(cold) > size / 2);
    await redis.client().flushall();
    // Newcomers on every replica, among them one that knows of no transfer.
    const newcomers = readAll(cold);
    const others = readAll(warm);
    expect([await reading, await newcomers, await others]).toEqual([right(2), right(), right()]);
    await idle();
    expect(asked(cold).length).toBeLessThanOrEqual(1 + replicas.length);
    expect(asked(warm)).toHaveLength(1);
    expect(await store.blobs()).toHaveLength(2);
    await expectUnfinished(store);
    expect(replicas.flatMap(warnings)).toEqual([]);
  });
});

// Of spools alone: where the blob goes in the end plays no part in it.
describe.skipIf(lacks('redis-server'))('Redis lost its keys, and a newcomer leads', () => {
  const size = 8 * 1024 * 1024;

  it('takes what the old leader has, and goes on from there', async () => {
    await using cluster = await startReplicas({ count: 2, upstream: { bytesPerSecond: 1_500_000 } });
    const { upstream, replica, replicas } = cluster;
    const blob = blobOf(size, 'two leaders');
    const path = `app/blobs/${blob.digest}`;
    upstream.addBlob('app', blob);
    const asked = () => upstream.asked({ method: 'GET', path: `/v2/${path}` });
    const first = receivesAll(replica(0).v2(path), blob.bytes);
    await upstream.until(() => (asked()[0]?.bodyBytes ?? 0) > size / 3);
    // Just after the old leader has extended its lease, so that the newcomer is there before the next time.
    const redis = cluster.redis.client();
    const [lease = ''] = await redis.keys('*:lease:blob:*');
    let left = Infinity;
    for (let next = await redis.pttl(lease); next <= left; next = await redis.pttl(lease)) left = next;
    await redis.flushall();
    const second = receivesAll(replica(1).v2(path), blob.bytes);
    expect([await first, await second]).toEqual([true, true]);
    await Promise.all(replicas.map(untilIdle));
    expect((await roles(replicas)).alone).toBe(0);
    // The newcomer's first try; the second one begins where the old leader had got.
    const ranges = asked().map(({ headers }) => Number(/=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0));
    expect(ranges).toEqual([0, 0, expect.any(Number)]);
    expect(ranges[2]).toBeGreaterThan(size / 3);
    expect(upstream.bytesSent({ path: `/v2/${path}` })).toBeLessThan(1.5 * size);
  });
});

describe.skipIf(lacks('redis-server'))('rule 3: the other end of a connection to Redis is silent', () => {
  it.each([
    ['from its first answer on', 0],
    ['from some moment on', undefined],
  ])('%s: it is told once, and another connection is made', async (_moment, stallAt) => {
    await using cleanup = new AsyncDisposableStack();
    const upstream = cleanup.use(await FakeUpstream.start());
    const redis = cleanup.use(await startRedis());
    const link = cleanup.use(await LinkProxy.start({ target: `http://${redis.addr}` }));
    if (stallAt !== undefined) for (const connection of [1, 2]) link.inject({ connection, stallAt });
    const { path: root } = cleanup.use(await temporaryFolder());
    const replica = await startReplica(cleanup, {
      root,
      redis: { addr: new URL(link.url).host },
      remoteurl: upstream.url,
      config: () => ({ cluster: { locktimeout: '1s' } }),
      index: 0,
    });
    const connected = async () =>
      String(await redis.client().client('LIST')).match(/ name=cistern-(?:data|locks) /g)?.length === 2;
    const told = () => replica.logRecords().filter(({ msg }) => String(msg).startsWith('redis '));
    const lead = () => roles([replica]).then(({ lead }) => lead);
    const pull = async (seed: string) => {
      const blob = blobOf(100_000, seed);
      upstream.addBlob('app', blob);
      expect(await receivesAll(replica.v2(`app/blobs/${blob.digest}`), blob.bytes)).toBe(true);
      await untilIdle(replica);
    };
    /** Until a pull has led: what Redis has accepted may not be ready here. */
    const pullAsLeader = async (seed: string) => {
      const before = await lead();
      let pulls = 0;
      const led = async () => {
        await pull(`${seed} ${(pulls += 1)}`);
        return (await lead()) > before;
      };
      await until(led, patience());
    };
    if (stallAt === undefined) {
      await until(connected, patience());
      await pullAsLeader('before');
      link.silence();
    }
    const before = await lead();
    await pull('meanwhile');
    expect(await lead()).toBe(before);
    await until(() => told().length === 2, patience());
    expect(told()).toMatchObject([
      { msg: 'redis cannot be used, going on without it' },
      { msg: 'redis is used again' },
    ]);
    await pullAsLeader('afterwards');
  });
});
