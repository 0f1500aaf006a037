import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Lease } from '../../src/cluster/cluster.js';
import { RedisCoordinator } from '../../src/cluster/redis/coordinator.js';
import { Keys } from '../../src/cluster/redis/keys.js';
import { createLogger } from '../../src/telemetry/log.js';
import { lacks } from '../parts/debian.js';
import { until } from '../parts/process.js';
import { type RedisServer, startRedis } from '../parts/redis.js';
import { type Linked, linked } from './linked.js';
import { patience } from '../parts/patience.js';
import { valuesSealedBy } from '../parts/sealed.js';

const key = 'blob:sha256:it';
const record = { url: 'http://10.0.0.1:5002', attempt: 'a'.repeat(32) };

describe.skipIf(lacks('redis-server'))('leases in Redis', () => {
  const keys = new Keys('store');
  const log = createLogger({ level: 'error', formatter: 'json', fields: {} });
  const values = valuesSealedBy(['secret']);
  const inTime = (): AbortSignal => patience();
  let redis: RedisServer;
  let links: Linked[];
  let one: RedisCoordinator;
  let other: RedisCoordinator;

  beforeEach(async () => {
    redis = await startRedis();
    links = await Promise.all([linked(redis.addr), linked(redis.addr)]);
    [one, other] = links.map(({ link }) => new RedisCoordinator(link, keys, values, log)) as [
      RedisCoordinator,
      RedisCoordinator,
    ];
  });
  afterEach(async () => {
    vi.useRealTimers();
    for (const each of links) each[Symbol.dispose]();
    await redis[Symbol.asyncDispose]();
  });

  async function lead(coordinator: RedisCoordinator): Promise<Lease> {
    const lease = await coordinator.tryLead(key);
    if (lease === undefined) throw new Error('it does not lead');
    return lease;
  }
  const left = (): Promise<number> => redis.client().pttl(keys.lease(key));
  /** Until the lease was extended: its time left has grown. */
  async function untilExtended(): Promise<void> {
    let before = await left();
    await until(async () => {
      const now = await left();
      const grown = now > before;
      before = now;
      return grown;
    }, inTime());
  }

  it('one leads; when it is done another may', async () => {
    const lease = await lead(one);
    expect(lease.scope).toBe('cluster');
    expect(await other.tryLead(key)).toBeUndefined();
    expect(await one.tryLead(key)).toBeUndefined();
    expect(await other.state(key)).toBe('led');
    await lease.release(false);
    expect(await other.state(key)).toBe('free');
    const next = await lead(other);
    await next.release(true);
    expect(await one.state(key)).toBe('done');
  });

  it('of many that try at once exactly one leads', async () => {
    const tries = await Promise.all(
      Array.from({ length: 50 }, (_, n) => (n % 2 === 0 ? one : other).tryLead(key)),
    );
    const leases = tries.filter((lease) => lease !== undefined);
    expect(leases).toHaveLength(1);
    await leases[0]?.release(false);
  });

  it('a leader is known while it leads', async () => {
    const lease = await lead(one);
    expect(await other.leader(key)).toBeUndefined();
    await lease.publish(record);
    expect(await other.leader(key)).toEqual(record);
    await lease.release(false);
    expect(await other.leader(key)).toBeUndefined();
  });

  it('whoever finishes late leaves the next leader alone', async () => {
    const lease = await lead(one);
    await lease.publish(record);
    await redis.client().del(keys.lease(key));
    const next = await lead(other);
    const nextRecord = { ...record, attempt: 'b'.repeat(32) };
    await next.publish(nextRecord);
    await lease.release(false);
    expect(await one.leader(key)).toEqual(nextRecord);
    expect(await one.state(key)).toBe('led');
    await next.release(false);
  });

  it('spools are listed, the fullest first, until they are withdrawn', async () => {
    one.announceSpool(key, { ...record, length: 5 });
    other.announceSpool(key, { ...record, attempt: 'b'.repeat(32), length: 50 });
    await until(async () => (await one.spools(key)).length === 2, inTime());
    expect((await one.spools(key)).map(({ length }) => length)).toEqual([50, 5]);
    other.withdrawSpool(key, { ...record, attempt: 'b'.repeat(32) });
    await until(async () => (await one.spools(key)).length === 1, inTime());
    expect(await one.spools(key)).toEqual([{ ...record, length: 5 }]);
    expect(await redis.client().pttl(keys.spools(key))).toBeGreaterThan(0);
  });

  it("records that are somebody else's are none", async () => {
    for (const text of ['', 'x', 'null', '1', '[]', '{"url":1,"attempt":"a"}', '{"url":"http://x"}']) {
      await redis.client().set(keys.leader(key), text);
      expect(await one.leader(key)).toBeUndefined();
    }
    await redis.client().hset(keys.spools(key), { a: 'no', b: '-1 http://x', c: '7' });
    expect(await one.spools(key)).toEqual([]);
  });

  it('accepts records only under their own key, with a proof of the secret', async () => {
    const elsewhere = 'blob:sha256:other';
    const lease = await lead(one);
    await lease.publish(record);
    one.announceSpool(key, { ...record, length: 5 });
    await until(async () => (await one.spools(key)).length === 1, inTime());
    const client = redis.client();
    await client.set(keys.leader(elsewhere), (await client.get(keys.leader(key))) ?? '');
    await client.hset(keys.spools(elsewhere), await client.hgetall(keys.spools(key)));
    await lease.release(true);
    expect(await other.state(key)).toBe('done');
    await client.set(keys.done(elsewhere), (await client.get(keys.done(key))) ?? '');
    expect(await other.leader(elsewhere)).toBeUndefined();
    expect(await other.spools(elsewhere)).toEqual([]);
    expect(await other.state(elsewhere)).toBe('free');
    await client.set(keys.leader(elsewhere), JSON.stringify(record));
    await client.hset(keys.spools(elsewhere), { [record.attempt]: `5 ${record.url}` });
    await client.set(keys.done(elsewhere), '1');
    expect(await other.leader(elsewhere)).toBeUndefined();
    expect(await other.spools(elsewhere)).toEqual([]);
    expect(await other.state(elsewhere)).toBe('free');
    // One replica's announcement does not count for another attempt.
    const [announced = ''] = Object.values(await client.hgetall(keys.spools(key)));
    await client.hset(keys.spools(key), { ['b'.repeat(32)]: announced });
    expect(await other.spools(key)).toEqual([{ ...record, length: 5 }]);
  });

  it.each([
    ['a list', (name: string) => redis.client().rpush(name, 'x')],
    ['a string that never lapses', (name: string) => redis.client().set(name, 'x')],
    [
      'a string that lapses an hour later, as after a step of the clock',
      (name: string) => redis.client().set(name, 'x', 'PX', 3_605_000),
    ],
  ])('takes a lease within its lifetime where another client left %s', async (_, make) => {
    const name = keys.lease(key);
    const lapses = async (): Promise<boolean> => {
      const ms = await left();
      return ms > 0 && ms <= 5_000;
    };
    await make(name);
    expect(await other.tryLead(key)).toBeUndefined();
    expect(await lapses()).toBe(true);
    await redis.client().persist(name);
    expect(await other.state(key)).toBe('led');
    expect(await lapses()).toBe(true);
    await until(async () => (await other.state(key)) === 'free', patience());
    expect((await lead(one)).scope).toBe('cluster');
    expect(await other.tryLead(key)).toBeUndefined();
  });

  it.each([
    ['lists', (name: string) => redis.client().rpush(name, 'x')],
    ['hashes of garbage', (name: string) => redis.client().hset(name, 'x', 'y'.repeat(1_000_000))],
    ['long strings', (name: string) => redis.client().set(name, 'x'.repeat(4_000_000))],
  ])('knows nothing from records that another client made %s', async (_, make) => {
    for (const name of [keys.leader(key), keys.spools(key), keys.done(key)]) await make(name);
    expect(await one.leader(key)).toBeUndefined();
    expect(await one.spools(key)).toEqual([]);
    expect(await one.state(key)).not.toBe('done');
    const lease = await lead(one);
    await lease.publish(record);
    one.announceSpool(key, { ...record, length: 5 });
    expect(await other.leader(key)).toEqual(record);
    await until(async () => (await other.spools(key)).length === 1, inTime());
    await lease.release(true);
    expect(await other.state(key)).toBe('done');
  });

  it.each(['no address', 'file:///etc/passwd', 'http://'])(
    'does not take %j for the address of a replica, sealed or not',
    async (url) => {
      const text = JSON.stringify({ url, attempt: record.attempt });
      await redis.client().set(keys.leader(key), values.seal(keys.leader(key), text));
      const field = values.seal(`${keys.spools(key)}\n${record.attempt}`, `5 ${url}`);
      await redis.client().hset(keys.spools(key), record.attempt, field);
      expect(await one.leader(key)).toBeUndefined();
      expect(await one.spools(key)).toEqual([]);
    },
  );

  it('a lease is extended for as long as it is held', async () => {
    const lease = await lead(one);
    await untilExtended();
    expect(lease.doubtful).toBe(false);
    await lease.release(false);
  });

  it('is extended although the clock of the replica was set', async () => {
    const lease = await lead(one);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 5 * 60_000 });
    await untilExtended();
    expect(lease.doubtful).toBe(false);
    expect(await lease.confirm()).toBe(true);
    await lease.release(false);
  });

  it('is taken again where the key is gone', async () => {
    const lease = await lead(one);
    await lease.publish(record);
    await redis.client().flushall();
    await until(async () => (await other.leader(key)) !== undefined, inTime());
    expect(await other.tryLead(key)).toBeUndefined();
    expect(await other.leader(key)).toEqual(record);
    await lease.release(false);
  });

  it('is given up where another has it, or has finished', async () => {
    const lost = await lead(one);
    await redis.client().del(keys.lease(key));
    const next = await lead(other);
    await until(() => lost.doubtful, inTime());
    expect(await lost.confirm()).toBe(false);
    expect(await other.state(key)).toBe('led');
    await next.release(false);

    const late = await lead(one);
    await redis.client().del(keys.lease(key));
    await (await lead(other)).release(true);
    await until(() => late.doubtful, inTime());
    expect(await late.confirm()).toBe(false);
    expect(await redis.client().exists(keys.lease(key))).toBe(0);
    await lost.release(false);
    await late.release(false);
  });

  it('goes on without Redis, and is held again when that is back', async () => {
    const lease = await lead(one);
    await lease.publish(record);
    await redis.kill();
    await until(() => lease.doubtful, inTime());
    expect(await lease.confirm()).toBe(true);
    const alone = await other.tryLead('blob:another');
    expect(alone?.scope).toBe('process');
    expect(await other.state(key)).toBe('unknown');
    expect(await other.spools(key)).toEqual([]);
    await redis.start();
    await until(async () => (await other.leader(key)) !== undefined, inTime());
    expect(await other.tryLead(key)).toBeUndefined();
    expect(lease.doubtful).toBe(false);
    await lease.release(false);
  });
});
