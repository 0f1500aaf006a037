import { expect, describe, it } from 'vitest';
import { imageOf, linuxAmd64, randomLayer } from '../parts/image.js';
import { sha256, startMirror } from '../parts/mirror.js';

const images = ['before', 'after'].map((seed) =>
  imageOf({ platform: linuxAmd64, layers: [randomLayer(300_000, seed)] }),
);

describe('rule 9: what is equal is told by digest and size alone', () => {
  it('an upstream that gives everything the same ETag moves tags and serves blobs like any other', async () => {
    const [before, after] = images;
    if (before === undefined || after === undefined) throw new Error('two images');
    const etag = '"always the same"';
    await using mirror = await startMirror({ upstream: { headers: { etag } }, proxy: { freshness: '1ms' } });
    const { upstream, url } = mirror;
    for (const image of [before, after]) {
      upstream.addImage('team/app', 'v1', image);
      const manifest = await fetch(url('team/app/manifests/v1'), { headers: { 'if-none-match': etag } });
      expect(manifest.status).toBe(200);
      expect(`sha256:${sha256(await manifest.bytes())}`).toBe(image.manifest.digest);
      expect(manifest.headers.get('etag')).toBe(`"${image.manifest.digest}"`);
      for (const { digest } of [image.config, ...image.layers]) {
        const blob = await fetch(url(`team/app/blobs/${digest}`));
        expect(`sha256:${sha256(await blob.bytes())}`).toBe(digest);
        expect(blob.headers.get('etag')).toBe(`"${digest}"`);
      }
    }
    // The newer one is stored beside the older, not in its place.
    const older = await fetch(url(`team/app/manifests/${before.manifest.digest}`));
    expect(`sha256:${sha256(await older.bytes())}`).toBe(before.manifest.digest);
  });
});
