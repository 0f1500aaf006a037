import { afterEach, beforeEach, expect, it } from 'vitest';
import { SlowClient } from '../fakes/slow-client.js';
import type { Content } from '../parts/image.js';
import { blobOf, metric, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { receivesAll, type Replica, type Replicas, roles, startReplicas } from '../parts/replicas.js';
import { describeOverStores, expectUnfinished } from '../parts/stores.js';
import { patience } from '../parts/patience.js';

// By its half a bucket has been given a part of it.
const size = 12 * 1024 * 1024;
const half = size / 2;
const bytesPerSecond = 4_000_000;

describeOverStores('the leading replica is lost in the middle', ['redis-server'], (newStore) => {
  let cluster: Replicas;
  let leader: Replica;
  let followers: Replica[];
  let blob: Content;
  let path: string;
  /** From the half on. */
  let goOn: PromiseWithResolvers<void>;

  beforeEach(async ({ task }) => {
    cluster = await startReplicas({ newStore, count: 3, links: true, upstream: { bytesPerSecond } });
    leader = cluster.replica(0);
    followers = [cluster.replica(1), cluster.replica(2)];
    blob = blobOf(size, task.name);
    path = `lost/blobs/${blob.digest}`;
    goOn = Promise.withResolvers();
    cluster.upstream.addBlob('lost', blob);
    const toLeader = { method: 'GET', path: `/v2/${path}`, nth: 1 };
    cluster.upstream.fault(toLeader, { stallAt: half, until: goOn.promise });
  });
  afterEach(() => cluster[Symbol.asyncDispose]());

  const asked = () => cluster.upstream.asked({ method: 'GET', path: `/v2/${path}` });
  const bytesSent = (): number => cluster.upstream.bytesSent({ path: `/v2/${path}` });
  const readEach = (replicas: readonly Replica[], times = 4): Promise<boolean[]> =>
    Promise.all(
      replicas.flatMap((each) => Array.from({ length: times }, () => receivesAll(each.v2(path), blob.bytes))),
    );
  const allRight = Array.from({ length: 8 }, () => true);

  /** The store has the blob, sound; of what was begun there, this much is left. */
  async function expectStored(left = 0): Promise<void> {
    expect(await cluster.store.blobs()).toEqual([blob.digest]);
    await expectUnfinished(cluster.store, left);
  }

  /** Its own client first, so that it leads; then the others, and half of the blob. */
  async function readHalf(): Promise<{ first: SlowClient; others: Promise<boolean[]> }> {
    const first = new SlowClient(leader.v2(path));
    first.finished.catch(() => undefined); // it may go down with its replica
    await cluster.upstream.until(() => bytesSent() > 0);
    const others = readEach(followers);
    await until(async () => (await roles(followers)).follow === followers.length, patience());
    await cluster.upstream.until(() => bytesSent() >= half);
    await until(async () => (await cluster.store.unfinished()).length > 0, patience());
    goOn.resolve();
    return { first, others };
  }

  it('SIGKILL: the others go on from where they are', async () => {
    const { others } = await readHalf();
    leader.kill('SIGKILL');
    expect(await others).toEqual(allRight);
    expect(asked()).toHaveLength(2);
    expect(asked()[1]?.headers.range).toMatch(/^bytes=[1-9]\d*-$/);
    expect(bytesSent()).toBeLessThanOrEqual(1.1 * size);
    await Promise.all(followers.map(untilIdle));
    expect(await roles(followers)).toEqual({
      lead: 0,
      follow: expect.any(Number) as number,
      alone: 0,
      takeover: 1,
    });
    await expectStored(1); // the dead one's, for a sweep
  });

  it.each([
    ['runs', () => cluster.upstream.until(() => asked().length === 2)],
    [
      'has ended',
      async (others: Promise<unknown>) => {
        await others;
        await Promise.all(followers.map(untilIdle));
      },
    ],
  ])('SIGSTOP: the woken leader reads no more while the other transfer %s', async (_moment, moment) => {
    const { first, others } = await readHalf();
    leader.kill('SIGSTOP');
    await moment(others);
    const sentToSleeper = asked()[0]?.bodyBytes ?? 0;
    leader.kill('SIGCONT');
    expect(await others).toEqual(allRight);
    // Its own client has waited.
    expect(await first.finished).toMatchObject({ end: 'complete', bytes: size });
    await Promise.all(cluster.replicas.map(untilIdle));
    expect(await metric(leader, 'registry_proxy_pulled_bytes_total', { type: 'blob' })).toBeLessThanOrEqual(
      sentToSleeper,
    );
    expect(asked()).toHaveLength(2);
    expect(asked()[1]?.bodyBytes).toBeLessThanOrEqual(0.6 * size);
    await expectStored();
  });

  it('a link that is cut to all others: each fetches at most what it lacks', async () => {
    const { first, others } = await readHalf();
    const missing = size - bytesSent();
    await leader.link?.down();
    expect(await others).toEqual(allRight);
    expect(await first.finished).toMatchObject({ end: 'complete', bytes: size });
    // What was on its way over the link is missing too.
    const lost = missing + size / 16;
    expect(bytesSent()).toBeLessThanOrEqual(size + followers.length * lost);
    await Promise.all(cluster.replicas.map(untilIdle));
    await expectStored();
  });

  it('one connection that is cut: it is made again, and nobody asks the upstream', async () => {
    followers = [cluster.replica(1)];
    leader.link?.inject({ connection: 1, cutAt: half, cut: 'reset' });
    const { others } = await readHalf();
    expect(await others).toEqual(allRight.slice(0, 4));
    expect(leader.link?.connections).toBe(2);
    expect(bytesSent()).toBe(size);
    await Promise.all(cluster.replicas.map(untilIdle));
    await expectStored();
  });

  it('a link that stalls for one: the others feed it', async () => {
    leader.link?.inject({ connection: 1, stallAt: half });
    const { first, others } = await readHalf();
    expect(await others).toEqual(allRight);
    expect(await first.finished).toMatchObject({ end: 'complete', bytes: size });
    expect(bytesSent()).toBe(size);
    await Promise.all(cluster.replicas.map(untilIdle));
    await expectStored();
  });
});
