import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Keys } from '../../src/cluster/redis/keys.js';
import { RedisMemory } from '../../src/cluster/redis/memory.js';
import { lacks } from '../parts/debian.js';
import { until } from '../parts/process.js';
import { startRedis, type RedisServer } from '../parts/redis.js';
import { linked, type Linked } from './linked.js';
import { patience } from '../parts/patience.js';

describe.skipIf(lacks('redis-server'))('how long Redis has kept its memory', () => {
  const keys = new Keys('store');
  let redis: RedisServer;
  let link: Linked;
  let memory: RedisMemory;
  const grown = (ms: number): Promise<void> =>
    until(async () => ((await memory.ageMs()) ?? 0) > ms, patience());

  beforeEach(async () => {
    redis = await startRedis();
    link = await linked(redis.addr);
    memory = new RedisMemory(link.link, keys);
  });
  afterEach(async () => {
    link[Symbol.dispose]();
    await redis[Symbol.asyncDispose]();
  });

  it('grows from the first question on, for all who ask', async () => {
    const asked = Date.now();
    expect(await memory.ageMs()).toBeLessThanOrEqual(Date.now() - asked);
    await grown(200);
    expect(await new RedisMemory(link.link, keys).ageMs()).toBeGreaterThan(200);
    expect(await redis.client().pttl(keys.since())).toBeGreaterThan(0);
  });

  it('begins anew where everything was forgotten, or the clock was set back', async () => {
    await grown(1_000);
    const flushed = Date.now();
    await redis.client().flushall();
    expect(await memory.ageMs()).toBeLessThanOrEqual(Date.now() - flushed);
    const ahead = Date.now();
    await redis.client().set(keys.since(), ahead + 3_600_000);
    expect(await memory.ageMs()).toBeLessThanOrEqual(Date.now() - ahead);
    const spoilt = Date.now();
    await redis.client().set(keys.since(), 'text of another program');
    expect(await memory.ageMs()).toBeLessThanOrEqual(Date.now() - spoilt);
  });

  it('is not known while Redis is away, and begins anew with an empty one', async () => {
    await grown(1_000);
    await redis.kill();
    await until(async () => (await memory.ageMs()) === undefined, patience());
    const started = Date.now();
    await redis.start();
    await until(() => link.link.usable, patience());
    expect(await memory.ageMs()).toBeLessThanOrEqual(Date.now() - started);
  });
});
