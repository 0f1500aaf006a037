import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { unavailable } from '../../src/cluster/redis/link.js';
import { lacks } from '../parts/debian.js';
import { until } from '../parts/process.js';
import { type RedisServer, startRedis } from '../parts/redis.js';
import { type Linked, linked } from './linked.js';
import { patience } from '../parts/patience.js';

const gone = 'redis cannot be used, going on without it';
const back = 'redis is used again';

describe.skipIf(lacks('redis-server'))('a link to Redis', () => {
  let redis: RedisServer;
  let parts: Linked;
  const inTime = (): AbortSignal => patience();
  const ping = (): Promise<unknown> => parts.link.call((client) => client.ping());

  beforeEach(async () => {
    redis = await startRedis();
  });
  afterEach(async () => {
    parts[Symbol.dispose]();
    await redis[Symbol.asyncDispose]();
  });

  it('says once that the server is gone, answers at once meanwhile, and finds it again', async () => {
    parts = await linked(redis.addr);
    expect(await ping()).toBe('PONG');
    await redis.kill();
    await until(() => !parts.link.usable, inTime());
    const answers = await Promise.all(Array.from({ length: 1000 }, ping));
    expect(new Set(answers)).toEqual(new Set([unavailable]));
    expect(parts.said()).toEqual([gone]);
    await redis.start();
    await until(() => parts.link.usable, inTime());
    expect(await ping()).toBe('PONG');
    expect(parts.said()).toEqual([gone, back]);
    expect(parts.states).toEqual([1, 0, 1]);
  });

  it('gives up on a server that has stopped answering, after a few calls, and finds it again', async () => {
    parts = await linked(redis.addr, 50);
    redis.signal('SIGSTOP');
    for (let n = 0; n < 3; n += 1) expect(await ping()).toBe(unavailable);
    expect(parts.link.usable).toBe(false);
    expect(parts.failures()).toBe(3);
    // From here on nothing is sent: a call does not even begin.
    let began = 0;
    await parts.link.call(() => {
      began += 1;
      return Promise.resolve();
    });
    expect(began).toBe(0);
    redis.signal('SIGCONT');
    await until(() => parts.link.usable, inTime());
    expect(await ping()).toBe('PONG');
    expect(parts.said()).toEqual([gone, back]);
  });

  it('counts commands that meet a value of a wrong type, names their keys, and goes on', async () => {
    parts = await linked(redis.addr);
    await redis.client().set('cistern:text', 'x');
    for (const times of [1, 2]) {
      expect(await parts.link.call((client) => client.hgetall('cistern:text'))).toBe(unavailable);
      expect(parts.failures()).toBe(times);
    }
    expect(await ping()).toBe('PONG');
    expect(parts.wrongTypes).toEqual(['cistern:text', 'cistern:text']);
    expect(parts.said()).toEqual([]);
  });
});
