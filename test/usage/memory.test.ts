import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { imageOf, randomLayer } from '../parts/image.js';
import { filesUnder, startMirror, untilIdle } from '../parts/mirror.js';

const patience = { interval: 100 };

describe('what is removed from the storage', () => {
  it('is soon no longer served from memory, but brought and stored again', async () => {
    await using mirror = await startMirror({
      proxy: { freshness: '1h' },
      config: { scheduler: { enabled: false, grace: '1s' } },
    });
    const { upstream, cistern, url } = mirror;
    const image = imageOf({ layers: [randomLayer(1_000, 'forgotten')] });
    const [layer] = image.layers;
    upstream.addImage('team/app', 'v1', image);
    const pull = async (): Promise<void> => {
      expect((await fetch(url('team/app/manifests/v1'))).status).toBe(200);
      const blob = await fetch(url(`team/app/blobs/${layer?.digest}`), { method: 'HEAD' });
      expect(blob.status).toBe(200);
    };
    const repository = join(cistern.root, 'docker/registry/v2/repositories/team/app');
    await (await fetch(url(`team/app/blobs/${layer?.digest}`))).arrayBuffer();
    await untilIdle(cistern);
    await pull();
    const links = await filesUnder(repository);
    expect(links).toContain('_manifests/tags/v1/current/link');
    const asked = upstream.requests.length;
    await pull();
    expect(upstream.requests).toHaveLength(asked);
    await rm(repository, { recursive: true });
    await expect
      .poll(async () => {
        await pull();
        return filesUnder(repository);
      }, patience)
      .toEqual(links);
  });
});
