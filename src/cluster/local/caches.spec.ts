import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { digestOf } from '../../oci/digest.js';
import type { DescriptorCache } from '../cluster.js';
import {
  LocalDescriptorCache,
  memoryLifetime,
  repeatLifetime,
  sharedLifetime,
  TieredDescriptorCache,
} from './caches.js';

const descriptor = { digest: digestOf(Buffer.from('a')), size: 1, mediaType: 'a/b' };

beforeEach(() => {
  vi.useFakeTimers();
  vi.advanceTimersByTime(1_000); // what was made at the time 0 never ends, for this cache
});
afterEach(() => void vi.useRealTimers());

describe('memoryLifetime', () => {
  it('is five minutes at most', () => {
    expect([601_000, 900_000].map(memoryLifetime)).toEqual([300_000, 300_000]);
  });

  it('is within the grace together with that of answers that are given again', () => {
    for (const grace of [1_000, 5_000, 300_000, 900_000]) {
      const shared = sharedLifetime(grace);
      expect(shared).toBeGreaterThan(0);
      expect(shared + memoryLifetime(grace) + repeatLifetime(grace)).toBeLessThanOrEqual(grace);
    }
    expect([1_000, 300_000].map(repeatLifetime)).toEqual([100, 1_000]);
  });
});

describe('LocalDescriptorCache', () => {
  it('forgets after its lifetime, however often it is asked', async () => {
    const cache = new LocalDescriptorCache(10_000);
    cache.put('key', descriptor);
    for (let second = 0; second < 10; second += 1) {
      expect(await cache.get('key')).toEqual(descriptor);
      vi.advanceTimersByTime(1_000);
    }
    vi.advanceTimersByTime(2_000);
    expect(await cache.get('key')).toBeUndefined();
  });
});

describe('TieredDescriptorCache', () => {
  it('asks the far one again after its lifetime', async () => {
    let asked = 0;
    const far: DescriptorCache = {
      get: () => {
        asked += 1;
        return Promise.resolve(asked < 3 ? descriptor : undefined);
      },
      put: () => undefined,
      drop: () => undefined,
      share: () => Promise.resolve(),
    };
    const cache = new TieredDescriptorCache(far, 10_000);
    await cache.get('key');
    vi.advanceTimersByTime(9_000);
    await cache.get('key');
    expect(asked).toBe(1);
    vi.advanceTimersByTime(2_000);
    expect(await cache.get('key')).toEqual(descriptor);
    expect(asked).toBe(2);
    vi.advanceTimersByTime(11_000);
    expect(await cache.get('key')).toBeUndefined();
  });
});
