import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.js';
import { blobPath } from '../../src/storage/layout.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { startCistern, type Cistern } from '../parts/cistern.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, jsonContent, randomLayer, type Image } from '../parts/image.js';
import {
  blobOf,
  expectSpecError,
  metric,
  sha256,
  soundStore,
  startMirror,
  untilIdle,
} from '../parts/mirror.js';

interface Damaged extends AsyncDisposable {
  readonly upstream: FakeUpstream;
  readonly cistern: Cistern;
  readonly image: Image;
  readonly layer: Digest;
  /** `http://…/v2/team/app/<path>`. */
  url(path: string): string;
}

/** A mirror that starts on a folder in which an image is stored, and then damaged. */
async function startDamaged(
  damage: (pathOf: (digest: Digest) => string, image: Image) => Promise<void>,
  offline = false,
): Promise<Damaged> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const upstream = cleanup.use(await FakeUpstream.start());
  const image = imageOf({ layers: [randomLayer(300_000, 'whole')] });
  const layer = image.layers[0]?.digest ?? image.config.digest;
  upstream.addImage('team/app', 'v1', image);
  const options = { root: folder.path, config: { proxy: { remoteurl: upstream.url } } };
  {
    await using first = await startCistern(options);
    await (await fetch(`${first.url}/v2/team/app/manifests/v1`)).arrayBuffer();
    await (await fetch(`${first.url}/v2/team/app/blobs/${layer}`)).arrayBuffer();
    await untilIdle(first);
    await first.stop();
  }
  await damage((digest) => join(folder.path, blobPath(digest)), image);
  const cistern = cleanup.use(await startCistern(offline ? { root: folder.path } : options));
  const owned = cleanup.move();
  upstream.requests.length = 0;
  return {
    upstream,
    cistern,
    image,
    layer,
    url: (path) => `${cistern.url}/v2/team/app/${path}`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const shorten =
  (size: number) =>
  (pathOf: (digest: Digest) => string, { layers: [layer] }: Image): Promise<void> =>
    truncate(pathOf(layer?.digest as Digest), size);

const warnings = (cistern: Cistern, type: string) =>
  cistern.logRecords().filter(({ msg }) => String(msg).startsWith(`a stored ${type} is damaged`));

describe('a stored blob that became shorter', () => {
  it.each([100_000, 0])('to %i bytes is made whole by the request that meets it', async (size) => {
    await using damaged = await startDamaged(shorten(size));
    const { upstream, cistern, image, layer, url } = damaged;
    expect((await fetch(url(`manifests/${image.manifest.digest}`))).status).toBe(200);
    const answer = await fetch(url(`blobs/${layer}`));
    expect(answer.status).toBe(200);
    expect(sha256(Buffer.from(await answer.arrayBuffer()))).toBe(layer.slice('sha256:'.length));
    await untilIdle(cistern);
    await soundStore(cistern.root);
    await (await fetch(url(`blobs/${layer}`))).arrayBuffer();
    expect(upstream.asked({ method: 'GET' }).map(({ path }) => path)).toEqual([
      `/v2/team/app/blobs/${layer}`,
    ]);
    expect(await metric(cistern, 'cistern_stored_damaged_total', { type: 'blob' })).toBe(1);
    await expect.poll(() => warnings(cistern, 'blob')).toHaveLength(1);
  });

  it('is made whole by a request for what is missing, and has its whole size for HEAD', async () => {
    await using damaged = await startDamaged(shorten(100_000));
    const { cistern, image, layer, url } = damaged;
    await fetch(url(`manifests/${image.manifest.digest}`));
    const head = await fetch(url(`blobs/${layer}`), { method: 'HEAD' });
    expect(head.headers.get('content-length')).toBe(String(image.layers[0]?.size));
    const answer = await fetch(url(`blobs/${layer}`), { headers: { range: 'bytes=200000-' } });
    expect(answer.status).toBe(206);
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(image.layers[0]?.bytes.subarray(200_000));
    await untilIdle(cistern);
    await soundStore(cistern.root);
  });

  it('is noticed without its manifest by who stored it', async () => {
    await using mirror = await startMirror();
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(300_000, 'alone');
    const path = `team/app/blobs/${blob.digest}`;
    upstream.addBlob('team/app', blob);
    for (const size of [300_000, 299_999, 0]) {
      await untilIdle(cistern);
      if (size < 300_000) await truncate(join(cistern.root, blobPath(blob.digest)), size);
      const answer = await fetch(url(path));
      expect(sha256(Buffer.from(await answer.arrayBuffer()))).toBe(sha256(blob.bytes));
    }
    expect(upstream.asked({ method: 'GET', path: `/v2/${path}` })).toHaveLength(3);
  });

  it('is never sent while the upstream cannot be asked', async () => {
    await using damaged = await startDamaged(shorten(100_000));
    const { upstream, image, layer, url } = damaged;
    await fetch(url(`manifests/${image.manifest.digest}`));
    await upstream.down();
    const answer = await fetch(url(`blobs/${layer}`));
    expect(answer.ok).toBe(false);
    await expectSpecError(answer, 503, 'UNAVAILABLE');
  });

  it('is not there for a mirror without upstream', async () => {
    await using damaged = await startDamaged(shorten(100_000), true);
    const { image, layer, url } = damaged;
    expect((await fetch(url(`manifests/${image.manifest.digest}`))).status).toBe(200);
    await expectSpecError(await fetch(url(`blobs/${layer}`)), 404, 'BLOB_UNKNOWN');
  });
});

describe('a manifest that lies about the size of a blob', () => {
  it('costs one transfer, for its own repository alone', async () => {
    await using damaged = await startDamaged(() => Promise.resolve());
    const { upstream, cistern, image, layer, url } = damaged;
    const { mediaType } = image.manifest;
    const layers = [{ ...image.layers[0], bytes: undefined, size: 7 }];
    const liar = jsonContent(mediaType, { schemaVersion: 2, mediaType, layers });
    upstream.addManifest('liar', liar, 'v1');
    for (const each of image.layers) upstream.addBlob('liar', each);
    await fetch(`${cistern.url}/v2/liar/manifests/v1`);
    await (await fetch(url(`blobs/${layer}`))).arrayBuffer();
    expect(upstream.asked({ method: 'GET', path: /blobs/ })).toHaveLength(0);
    for (let times = 0; times < 3; times += 1) {
      const answer = await fetch(`${cistern.url}/v2/liar/blobs/${layer}`);
      expect(sha256(Buffer.from(await answer.arrayBuffer()))).toBe(layer.slice('sha256:'.length));
      await untilIdle(cistern);
    }
    expect(upstream.asked({ method: 'GET', path: /blobs/ })).toHaveLength(1);
  });
});

describe('a stored manifest that is damaged', () => {
  it.each([
    ['shortened', (bytes: Buffer) => bytes.subarray(0, 50)],
    ['emptied', () => Buffer.alloc(0)],
    [
      'changed',
      (bytes: Buffer) => Buffer.from(bytes.toString().replace('"schemaVersion":2', '"schemaVersion":3')),
    ],
  ])('(%s) is fetched again by the request that meets it', async (_how, change) => {
    await using damaged = await startDamaged((pathOf, { manifest }) =>
      writeFile(pathOf(manifest.digest), change(manifest.bytes)),
    );
    const { upstream, cistern, image, url } = damaged;
    const { digest, bytes } = image.manifest;
    for (let times = 0; times < 2; times += 1) {
      const answer = await fetch(url(`manifests/${digest}`));
      expect(answer.status).toBe(200);
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes);
    }
    expect(upstream.asked({ method: 'GET' })).toHaveLength(1);
    await soundStore(cistern.root);
    expect(await metric(cistern, 'cistern_stored_damaged_total', { type: 'manifest' })).toBe(1);
    await expect.poll(() => warnings(cistern, 'manifest')).toHaveLength(1);
  });

  it('is not there for a mirror without upstream', async () => {
    await using damaged = await startDamaged(
      (pathOf, { manifest }) => truncate(pathOf(manifest.digest), 50),
      true,
    );
    const { image, url } = damaged;
    const answer = await fetch(url(`manifests/${image.manifest.digest}`));
    expect(answer.ok).toBe(false);
    await expectSpecError(answer, 404, 'MANIFEST_UNKNOWN');
  });
});
