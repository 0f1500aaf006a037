import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { LocalDescriptorCache, TieredDescriptorCache } from '../../src/cluster/local/caches.js';
import {
  formatDescriptor,
  formatTimed,
  RedisDescriptorCache,
} from '../../src/cluster/redis/descriptor-cache.js';
import { Keys } from '../../src/cluster/redis/keys.js';
import { RedisTagCache, timed } from '../../src/cluster/redis/tag-cache.js';
import { digestOf } from '../../src/oci/digest.js';
import { descriptorCacheContract } from '../contracts/descriptor-cache.js';
import { lacks } from '../parts/debian.js';
import { until } from '../parts/process.js';
import { type RedisServer, startRedis } from '../parts/redis.js';
import { type Linked, linked } from './linked.js';
import { patience } from '../parts/patience.js';
import { valuesSealedBy } from '../parts/sealed.js';

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
  const refused: string[] = [];
  const values = valuesSealedBy(['secret'], (kind) => refused.push(kind));
  const inTime = (): AbortSignal => patience();
  const descriptor = { digest: digestOf(Buffer.from('it')), size: 2, mediaType: 'text/plain' };

  describe('descriptors in Redis', () => {
    descriptorCacheContract(() =>
      Promise.resolve(new RedisDescriptorCache(one.link, new Keys('far'), values, 60_000)),
    );
  });
  describe('descriptors in Redis behind memory', () => {
    descriptorCacheContract(() =>
      Promise.resolve(
        new TieredDescriptorCache(
          new RedisDescriptorCache(one.link, new Keys('tiers'), values, 60_000),
          60_000,
        ),
      ),
    );
  });

  it('descriptors: what one puts the other has, of the same store alone', async () => {
    new RedisDescriptorCache(one.link, keys, values, 60_000).put('app@it', descriptor);
    const seen = new RedisDescriptorCache(other.link, keys, values, 60_000);
    await until(async () => (await seen.get('app@it')) !== undefined, inTime());
    expect(await seen.get('app@it')).toEqual(descriptor);
    expect(
      await new RedisDescriptorCache(other.link, new Keys('elsewhere'), values, 60_000).get('app@it'),
    ).toBeUndefined();
    expect(await redis.client().ttl(keys.descriptor('app@it'))).toBeGreaterThan(0);
  });

  it.each(['', 'x', '1 sha256:short text/plain', `-1 ${descriptor.digest} a/b`, `1 ${descriptor.digest}`])(
    'descriptors: %j, of somebody else, is none',
    async (text) => {
      await redis.client().set(keys.descriptor('foreign'), text);
      expect(await new RedisDescriptorCache(one.link, keys, values, 60_000).get('foreign')).toBeUndefined();
    },
  );

  describe('from a client without the secret', () => {
    const outsider = valuesSealedBy(['guessed']);
    const text = formatTimed(descriptor);
    const name = keys.descriptor('app@forged');

    it.each([
      ['without a proof', text],
      ['of an earlier version', formatDescriptor(descriptor)],
      ['with a wrong proof', `${text} ${'A'.repeat(22)}`],
      ['with an empty proof', `${text} `],
      ['with the proof of a guessed secret', outsider.seal(name, text)],
      ['of another repository', values.seal(keys.descriptor('other@forged'), text)],
      ['of another cluster', values.seal(new Keys('elsewhere').descriptor('app@forged'), text)],
      ['of another kind of key', values.seal(keys.tag('app@forged'), text)],
    ])('a descriptor %s is ignored and counted', async (_, value) => {
      await redis.client().set(name, value);
      refused.length = 0;
      expect(
        await new RedisDescriptorCache(one.link, keys, values, 60_000).get('app@forged'),
      ).toBeUndefined();
      expect(refused).toEqual(['descriptor']);
    });

    it('a descriptor that was copied and put back expires with the original', async () => {
      const cache = new RedisDescriptorCache(one.link, keys, values, 60_000);
      await cache.share([['app@forged', descriptor]]);
      const copy = (await redis.client().get(name)) ?? '';
      await redis.client().del(name);
      await redis.client().set(name, copy);
      expect(await cache.get('app@forged')).toEqual(descriptor);
      for (const hours of [25, -2]) {
        vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + hours * 3_600_000 });
        expect(await cache.get('app@forged')).toBeUndefined();
        vi.useRealTimers();
      }
    });

    it('a tag is ignored, whatever its time, and replicas can replace it', async () => {
      const tags = new RedisTagCache(one.link, keys, values);
      const late = String(Number(await tags.now()) + 3_600_000);
      const [tag, elsewhere] = [keys.tag('app:forged'), keys.tag('other:forged')];
      for (const forged of [
        formatDescriptor(descriptor),
        outsider.seal(timed(tag, late), formatDescriptor(descriptor)),
        values.seal(timed(elsewhere, late), formatDescriptor(descriptor)),
        values.seal(timed(tag, '1'), formatDescriptor(descriptor)), // an old answer with a new time
      ]) {
        for (const began of [late, 'soon']) {
          await redis.client().hset(tag, { began, descriptor: forged });
          expect(await tags.get('app:forged')).toBeUndefined();
          expect(await tags.put('app:forged', descriptor, (await tags.now()) ?? '')).toBe(true);
          expect(await tags.get('app:forged')).toMatchObject({ descriptor });
        }
      }
    });
  });

  it('replicas before and after a change of the secret accept values of both secrets', async () => {
    const both = valuesSealedBy(['after', 'before']);
    const old = valuesSealedBy(['before']);
    await new RedisDescriptorCache(one.link, keys, old, 60_000).share([['app@rotated', descriptor]]);
    expect(await new RedisDescriptorCache(other.link, keys, both, 60_000).get('app@rotated')).toEqual(
      descriptor,
    );
    await new RedisDescriptorCache(one.link, keys, both, 60_000).share([['app@rotated', descriptor]]);
    expect(await new RedisDescriptorCache(other.link, keys, old, 60_000).get('app@rotated')).toEqual(
      descriptor,
    );
  });

  it('tags: the future of a Redis clock that stepped back is stale, and a new answer replaces it', async () => {
    const tags = new RedisTagCache(one.link, keys, values);
    const began = String(Number(await tags.now()) + 3_600_000);
    const name = keys.tag('app:future');
    await redis.client().hset(name, {
      began,
      descriptor: values.seal(timed(name, began), formatDescriptor(descriptor)),
    });
    expect(await tags.get('app:future')).toBeUndefined();
    expect(await tags.put('app:future', descriptor, (await tags.now()) ?? '')).toBe(true);
    expect(await tags.get('app:future')).toMatchObject({ descriptor });
  });

  it.each<[string, (name: string) => Promise<unknown>]>([
    ['a list', (name) => redis.client().rpush(name, 'x')],
    ['a long string', (name) => redis.client().set(name, 'x'.repeat(10_000_000))],
    ['a hash', (name) => redis.client().hset(name, { began: 'x'.repeat(3_000), descriptor: '{' })],
  ])('%s that another client wrote is absent, and is replaced', async (_, write) => {
    const [tag, content] = [keys.tag('app:garbage'), keys.descriptor('app@garbage')];
    const tags = new RedisTagCache(one.link, keys, values);
    const descriptors = new RedisDescriptorCache(one.link, keys, values, 60_000);
    for (const name of [tag, content]) {
      await redis.client().del(name);
      await write(name);
    }
    expect(await tags.get('app:garbage')).toBeUndefined();
    expect(await descriptors.get('app@garbage')).toBeUndefined();
    expect(await tags.put('app:garbage', descriptor, (await tags.now()) ?? '')).toBe(true);
    await descriptors.share([['app@garbage', descriptor]]);
    expect(await tags.get('app:garbage')).toMatchObject({ descriptor });
    expect(await descriptors.get('app@garbage')).toEqual(descriptor);
  });

  it('tags: what one was told the other knows', async () => {
    const [tags, seen] = [
      new RedisTagCache(one.link, keys, values),
      new RedisTagCache(other.link, keys, values),
    ];
    expect(await seen.get('app:v1')).toBeUndefined();
    await tags.put('app:v1', descriptor, (await tags.now()) ?? '');
    expect(await seen.get('app:v1')).toMatchObject({ descriptor });
    expect(await redis.client().pttl(keys.tag('app:v1'))).toBeGreaterThan(0);
    tags.drop('app:v1');
    await until(async () => (await seen.get('app:v1')) === undefined, inTime());
  });

  it('tags: who asked earlier and stores later does not turn one back', async () => {
    const [sleeper, tags] = [
      new RedisTagCache(one.link, keys, values),
      new RedisTagCache(other.link, keys, values),
    ];
    const early = (await sleeper.now()) ?? '';
    const late = String(Number(early) + 1);
    const newer = { ...descriptor, digest: digestOf(Buffer.from('newer')) };
    await tags.put('app:moved', newer, late);
    await sleeper.put('app:moved', descriptor, early);
    expect(await tags.get('app:moved')).toMatchObject({ descriptor: newer });
  });

  it("tags: their age is told by Redis' clock, whatever a replica's own says", async () => {
    const [tags, seen] = [
      new RedisTagCache(one.link, keys, values),
      new RedisTagCache(other.link, keys, values),
    ];
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
    const tags = new RedisTagCache(alone.link, keys, values);
    expect(await tags.now()).toBeUndefined();
    await tags.put('app:v1', descriptor, '1');
    expect(await tags.get('app:v1')).toBeUndefined();
    const descriptors = new RedisDescriptorCache(alone.link, keys, values, 60_000);
    descriptors.put('app@it', descriptor);
    descriptors.drop('app@it');
    expect(await descriptors.get('app@it')).toBeUndefined();
  });
});
