import { expect, it } from 'vitest';
import type { DescriptorCache } from '../../src/cluster/cluster.js';
import { digestOf } from '../../src/oci/digest.js';
import { until } from '../parts/process.js';
import { patience } from '../parts/patience.js';

const mediaType = 'application/vnd.oci.image.manifest.v1+json';

/** What every DescriptorCache does. */
export function descriptorCacheContract(make: () => Promise<DescriptorCache>): void {
  const descriptor = { digest: digestOf(Buffer.from('it')), size: 2, mediaType };
  const key = (name: string): string => `app/${name}@${descriptor.digest}`;
  const inTime = (): AbortSignal => patience();

  it('has nothing at first', async () => {
    expect(await (await make()).get(key('absent'))).toBeUndefined();
  });

  it('gives back what was put, under its own key alone', async () => {
    const cache = await make();
    cache.put(key('a'), descriptor);
    await until(async () => (await cache.get(key('a'))) !== undefined, inTime());
    expect(await cache.get(key('a'))).toEqual(descriptor);
    expect(await cache.get(key('b'))).toBeUndefined();
  });

  it('holds the last of several', async () => {
    const cache = await make();
    for (let size = 1; size <= 5; size += 1) cache.put(key('c'), { ...descriptor, size });
    await until(async () => (await cache.get(key('c')))?.size === 5, inTime());
    expect(await cache.get(key('c'))).toEqual({ ...descriptor, size: 5 });
  });

  it('forgets what is dropped, written or about to be', async () => {
    const cache = await make();
    cache.put(key('d'), descriptor);
    cache.put(key('kept'), descriptor);
    cache.drop(key('d'));
    await until(async () => (await cache.get(key('kept'))) !== undefined, inTime());
    expect(await cache.get(key('d'))).toBeUndefined();
    cache.drop(key('kept'));
    await until(async () => (await cache.get(key('kept'))) === undefined, inTime());
  });
}
