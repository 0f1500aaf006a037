import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { LocalDescriptorCache, TieredDescriptorCache } from '../../src/cluster/local/caches.js';
import { RedisDescriptorCache } from '../../src/cluster/redis/descriptor-cache.js';
import { Keys } from '../../src/cluster/redis/keys.js';
import { RedisTagCache } from '../../src/cluster/redis/tag-cache.js';
import { digestOf } from '../../src/oci/digest.js';
import { descriptorCacheContract } from '../contracts/descriptor-cache.js';
import { lacks } from '../parts/debian.js';
import { until } from '../parts/process.js';
import { type RedisServer, startRedis } from '../parts/redis.js';
import { type Linked, linked } from './linked.js';
import { patience } from '../parts/patience.js';

describe('descriptors in this process', () => {
  descriptorCacheContract(() => Promise.resolve(new LocalDescriptorCache(60_000)));
});

describe.skipIf(lacks('redis-server'))('what replicas remember together', () => {
  let redis: RedisServer;
  let one: Linked;
  let other: Linked;
  beforeAll(async () => {
    redis = await startRedis();
    [one, other] = await Promise.all([linked(redis.addr), linked(redis.addr)]);
  });
  afterAll(async () => {
    one[Symbol.dispose]();
    other[Symbol.dispose]();
    await redis[Symbol.asyncDispose]();
  });
  afterEach(() => void vi.useRealTimers());

  const keys = new Keys('store');
  const inTime = (): AbortSignal => patience();
  const descriptor = { digest: digestOf(Buffer.from('it')), size: 2, mediaType: 'text/plain' };

  describe('descriptors in Redis', () => {
    descriptorCacheContract(() => Promise.resolve(new RedisDescriptorCache(one.link, new Keys('far'))));
  });
  describe('descriptors in Redis behind memory', () => {
    descriptorCacheContract(() =>
      Promise.resolve(
        new TieredDescriptorCache(new RedisDescriptorCache(one.link, new Keys('tiers')), 60_000),
      ),
    );
  });

  it('descriptors: what one puts the other has, of the same store alone', async () => {
    new RedisDescriptorCache(one.link, keys).put('app@it', descriptor);
    const seen = new RedisDescriptorCache(other.link, keys);
    await until(async () => (await seen.get('app@it')) !== undefined, inTime());
    expect(await seen.get('app@it')).toEqual(descriptor);
    expect(await new RedisDescriptorCache(other.link, new Keys('elsewhere')).get('app@it')).toBeUndefined();
    expect(await redis.client().ttl(keys.descriptor('app@it'))).toBeGreaterThan(0);
  });

  it.each(['', 'x', '1 sha256:short text/plain', `-1 ${descriptor.digest} a/b`, `1 ${descriptor.digest}`])(
    'descriptors: %j, of somebody else, is none',
    async (text) => {
      await redis.client().set(keys.descriptor('foreign'), text);
      expect(await new RedisDescriptorCache(one.link, keys).get('foreign')).toBeUndefined();
    },
  );

  it('tags: what one was told the other knows', async () => {
    const [tags, seen] = [new RedisTagCache(one.link, keys), new RedisTagCache(other.link, keys)];
    expect(await seen.get('app:v1')).toBeUndefined();
    await tags.put('app:v1', descriptor, (await tags.now()) ?? '');
    expect(await seen.get('app:v1')).toMatchObject({ descriptor });
    expect(await redis.client().pttl(keys.tag('app:v1'))).toBeGreaterThan(0);
    tags.drop('app:v1');
    await until(async () => (await seen.get('app:v1')) === undefined, inTime());
  });

  it('tags: who asked earlier and stores later does not turn one back', async () => {
    const [sleeper, tags] = [new RedisTagCache(one.link, keys), new RedisTagCache(other.link, keys)];
    const early = (await sleeper.now()) ?? '';
    const late = String(Number(early) + 1);
    const newer = { ...descriptor, digest: digestOf(Buffer.from('newer')) };
    await tags.put('app:moved', newer, late);
    await sleeper.put('app:moved', descriptor, early);
    expect(await tags.get('app:moved')).toMatchObject({ descriptor: newer });
  });

  it("tags: their age is told by Redis' clock, whatever a replica's own says", async () => {
    const [tags, seen] = [new RedisTagCache(one.link, keys), new RedisTagCache(other.link, keys)];
    const minutes = 5 * 60_000;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + minutes });
    await tags.put('app:clocks', descriptor, (await tags.now()) ?? '');
    vi.useRealTimers();
    expect((await seen.get('app:clocks'))?.ageMs).toBeLessThan(minutes / 2);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - minutes });
    expect((await seen.get('app:clocks'))?.ageMs).toBeLessThan(minutes / 2);
    // Not because it is always young.
    await tags.put('app:old', descriptor, String(Number(await tags.now()) - minutes));
    expect((await seen.get('app:old'))?.ageMs).toBeGreaterThanOrEqual(minutes);
  });

  it('without Redis there is nothing to know, and nobody waits', async () => {
    using alone = await linked(redis.addr);
    alone.link.close();
    const tags = new RedisTagCache(alone.link, keys);
    expect(await tags.now()).toBeUndefined();
    await tags.put('app:v1', descriptor, '1');
    expect(await tags.get('app:v1')).toBeUndefined();
    const descriptors = new RedisDescriptorCache(alone.link, keys);
    descriptors.put('app@it', descriptor);
    descriptors.drop('app@it');
    expect(await descriptors.get('app@it')).toBeUndefined();
  });
});
