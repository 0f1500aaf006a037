import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf } from '../../src/oci/digest.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { receive } from '../fakes/slow-client.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { type Content, type Image, imageOf, indexOf, jsonContent, randomLayer } from '../parts/image.js';
import { blobOf, metric, soundStore, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { patience } from '../parts/patience.js';

describe('tags and manifests', () => {
  let upstream: FakeUpstream;
  /** By their `freshness`. */
  const mirrors = new Map<string, Cistern>();
  beforeAll(async () => {
    upstream = await FakeUpstream.start();
    for (const freshness of ['0s', '1s', '1h']) {
      mirrors.set(
        freshness,
        await startCistern({ config: { proxy: { remoteurl: upstream.url, freshness } } }),
      );
    }
  });
  afterAll(async () => {
    for (const mirror of mirrors.values()) await mirror[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
  });

  const mirrorOf = (freshness: string): Cistern => mirrors.get(freshness) as Cistern;
  const urlOf = (freshness: string, path: string): string => `${mirrorOf(freshness).url}/v2/${path}`;
  let images = 0;
  const newImage = (): Image => imageOf({ layers: [randomLayer(100, `tags ${(images += 1)}`)] });

  async function digestAt(url: string): Promise<string | null> {
    const answer = await fetch(url);
    await answer.arrayBuffer();
    return answer.headers.get('docker-content-digest');
  }

  it('within the freshness nobody is asked, and no GET is repeated', async () => {
    upstream.addImage('long', 'v1', newImage());
    for (let times = 0; times < 5; times += 1) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await fetch(urlOf('1h', 'long/manifests/v1'), { method });
        expect(answer.status).toBe(200);
        await answer.arrayBuffer();
      }
    }
    expect(upstream.asked({ path: /^\/v2\/long\// }).map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  it('without freshness each look is one HEAD, however many look at once', async () => {
    upstream.addImage('none', 'v1', newImage());
    const path = '/v2/none/manifests/v1';
    await digestAt(urlOf('0s', 'none/manifests/v1'));
    const go = Promise.withResolvers<void>();
    upstream.fault({ path, nth: 1 }, { headersAfter: go.promise });
    const looks = Array.from({ length: 300 }, () => receive(urlOf('0s', 'none/manifests/v1')));
    const waiting = { handler: 'manifest' };
    await until(
      async () =>
        (await metric(mirrorOf('0s'), 'registry_http_in_flight_requests', waiting)) === looks.length,
      patience(),
    );
    go.resolve();
    for (const look of await Promise.all(looks)) expect(look).toMatchObject({ status: 200, end: 'complete' });
    expect(upstream.asked({ path }).map(({ method }) => method)).toEqual(['HEAD', 'HEAD']);
    upstream.clearFaults();
  });

  it('sends one HEAD for a herd at a tag that is no longer fresh', async () => {
    upstream.addImage('herd', 'v1', newImage());
    const path = '/v2/herd/manifests/v1';
    const url = urlOf('1s', 'herd/manifests/v1');
    await digestAt(url);
    const asked = upstream.asked({ path }).length;
    const go = Promise.withResolvers<void>();
    upstream.fault({ path, nth: 1 }, { headersAfter: go.promise });
    const looks: ReturnType<typeof receive>[] = [];
    await until(() => {
      looks.push(receive(url));
      return upstream.asked({ path }).length > asked;
    }, patience());
    const herd = 300;
    looks.push(...Array.from({ length: herd }, () => receive(url)));
    const waiting = { handler: 'manifest' };
    await until(
      async () => (await metric(mirrorOf('1s'), 'registry_http_in_flight_requests', waiting)) > herd,
      patience(),
    );
    go.resolve();
    for (const look of await Promise.all(looks)) expect(look).toMatchObject({ status: 200, end: 'complete' });
    expect(upstream.asked({ path })).toHaveLength(asked + 1);
    upstream.clearFaults();
  });

  it('follows a tag that moved, and keeps what it pointed to', async () => {
    const [first, second] = [newImage(), newImage()];
    const url = urlOf('0s', 'moves/manifests/v1');
    upstream.addImage('moves', 'v1', first);
    expect(await digestAt(url)).toBe(first.manifest.digest);
    upstream.addImage('moves', 'v1', second);
    expect(await digestAt(url)).toBe(second.manifest.digest);
    const { links } = await soundStore(mirrorOf('0s').root);
    expect(links['moves/_manifests/tags/v1/current/link']).toBe(second.manifest.digest);
    const asked = upstream.requests.length;
    expect(await digestAt(urlOf('0s', `moves/manifests/${first.manifest.digest}`))).toBe(
      first.manifest.digest,
    );
    expect(upstream.requests).toHaveLength(asked);
  });

  it('by digest asks the upstream at most once', async () => {
    const { manifest } = newImage();
    upstream.addManifest('digest', manifest);
    const path = `digest/manifests/${manifest.digest}`;
    const all = await Promise.all(Array.from({ length: 50 }, () => receive(urlOf('0s', path))));
    expect(all.every(({ status, bytes }) => status === 200 && bytes === manifest.size)).toBe(true);
    await fetch(urlOf('0s', path), { method: 'HEAD' });
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
  });

  it('304 for what the client has, of manifests and blobs', async () => {
    const image = newImage();
    upstream.addImage('etag', 'v1', image);
    const { manifest, config } = image;
    for (const [path, digest] of [
      ['etag/manifests/v1', manifest.digest],
      [`etag/manifests/${manifest.digest}`, manifest.digest],
      [`etag/blobs/${config.digest}`, config.digest],
    ] as const) {
      const first = await fetch(urlOf('0s', path));
      await first.arrayBuffer();
      expect(first.headers.get('etag')).toBe(`"${digest}"`);
      for (const etag of [`"${digest}"`, `W/"${digest}"`, `"a", "${digest}"`, '*']) {
        const again = await fetch(urlOf('0s', path), { headers: { 'if-none-match': etag } });
        expect({ path, etag, status: again.status }).toEqual({ path, etag, status: 304 });
        expect((await again.arrayBuffer()).byteLength).toBe(0);
      }
      const other = await fetch(urlOf('0s', path), { headers: { 'if-none-match': '"sha256:0"' } });
      expect(other.status).toBe(200);
      await other.arrayBuffer();
    }
  });

  it('asks by GET where the upstream’s HEAD does not tell the digest', async () => {
    const image = newImage();
    upstream.addImage('headless', 'v1', image);
    upstream.fault(
      { path: /^\/v2\/headless\//, method: 'HEAD' },
      { headers: { 'docker-content-digest': undefined } },
    );
    expect(await digestAt(urlOf('0s', 'headless/manifests/v1'))).toBe(image.manifest.digest);
    upstream.fault({ path: /^\/v2\/headless2\//, method: 'HEAD' }, { answer: { status: 405 } });
    upstream.addImage('headless2', 'v1', image);
    expect(await digestAt(urlOf('0s', 'headless2/manifests/v1'))).toBe(image.manifest.digest);
  });

  const docker = 'application/vnd.docker.distribution.manifest.list.v2+json';
  const artifact = 'application/vnd.oci.artifact.manifest.v1+json';
  const kinds: [string, Content][] = [
    ['an OCI index', indexOf([newImage(), newImage()]).manifest],
    ['a Docker list', indexOf([imageOf({ layers: [], format: 'docker' })], 'docker').manifest],
    ['an artifact manifest', jsonContent(artifact, { mediaType: artifact, artifactType: 'x/y', blobs: [] })],
    [
      'an OCI manifest that does not say what it is',
      jsonContent('application/vnd.oci.image.manifest.v1+json', { schemaVersion: 2, config: {}, layers: [] }),
    ],
    [
      'an OCI index that does not say what it is',
      jsonContent('application/vnd.oci.image.index.v1+json', { schemaVersion: 2, manifests: [] }),
    ],
  ];
  it.each(kinds)('%s keeps its bytes and its type', async (kind, manifest) => {
    const repository = kind.toLowerCase().replaceAll(' ', '-');
    upstream.addManifest(repository, manifest, 'v1');
    for (const path of [`${repository}/manifests/v1`, `${repository}/manifests/${manifest.digest}`]) {
      const answer = await fetch(urlOf('1h', path), { headers: { accept: docker } });
      expect(answer.headers.get('content-type')).toBe(manifest.mediaType);
      expect(answer.headers.get('content-length')).toBe(String(manifest.size));
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(manifest.bytes);
    }
  });

  it('sha512 as well, of blobs and manifests', async () => {
    const blob = blobOf(100_000, 'sha512');
    const { manifest } = newImage();
    const [blob512, manifest512] = [digestOf(blob.bytes, 'sha512'), digestOf(manifest.bytes, 'sha512')];
    upstream.addBlob('sha512', { ...blob, digest: blob512 });
    upstream.addManifest('sha512', { ...manifest, digest: manifest512 });
    for (const [path, bytes] of [
      [`sha512/blobs/${blob512}`, blob.bytes],
      [`sha512/manifests/${manifest512}`, manifest.bytes],
    ] as const) {
      for (let times = 0; times < 2; times += 1) {
        const answer = await fetch(urlOf('1h', path));
        expect(answer.status).toBe(200);
        expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
        await untilIdle(mirrorOf('1h'));
      }
      expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
    }
    upstream.addBlob('sha512', { ...blobOf(10, 'not it'), digest: digestOf(Buffer.from('other'), 'sha512') });
    const wrong = await receive(urlOf('1h', `sha512/blobs/${digestOf(Buffer.from('other'), 'sha512')}`)).then(
      ({ end }) => end,
      () => 'cut',
    );
    expect(wrong).not.toBe('complete');
    expect((await soundStore(mirrorOf('1h').root)).blobs).toEqual(
      expect.arrayContaining([blob512, manifest512]),
    );
  });
});
