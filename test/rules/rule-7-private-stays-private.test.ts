import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestOf } from '../../src/oci/digest.js';
import type { Fault } from '../fakes/fault.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { receive, SlowClient } from '../fakes/slow-client.js';
import type { Content } from '../parts/image.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, expectSpecError, type Mirror, sha256, startMirror, untilIdle } from '../parts/mirror.js';

const size = 500_000;

/** The part of the body that arrives before the connection ends. */
async function bodyOf(response: Response): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of response.body ?? []) chunks.push(chunk as Uint8Array);
  } catch {
    // Cut.
  }
  return Buffer.concat(chunks);
}

describe('rule 7: private stays private', () => {
  let other: FakeUpstream;
  let mirror: Mirror;
  beforeAll(async () => {
    other = await FakeUpstream.start();
    mirror = await startMirror({ proxy: { upstreams: [{ host: 'other.example', url: other.url }] } });
  });
  afterAll(async () => {
    await mirror[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
  });

  async function stored(repository: string, seed: string): Promise<Content> {
    const blob = blobOf(size, seed);
    mirror.upstream.addBlob(repository, blob);
    expect((await receive(mirror.url(`${repository}/blobs/${blob.digest}`))).end).toBe('complete');
    await untilIdle(mirror.cistern);
    return blob;
  }

  it('does not serve a stored blob where the upstream does not have it', async () => {
    const { upstream, url } = mirror;
    const blob = await stored('a/secret', 'secret');
    upstream.addBlob('b/public', blobOf(10, 'public'));
    for (const method of ['GET', 'HEAD']) {
      const answer = await fetch(url(`b/public/blobs/${blob.digest}`), { method });
      expect(answer.status).toBe(404);
    }
    expect((await fetch(url(`other.example/b/public/blobs/${blob.digest}`))).status).toBe(404);
    expect(upstream.asked({ path: `/v2/b/public/blobs/${blob.digest}` })).toEqual([
      expect.objectContaining({ method: 'HEAD' }),
    ]);
    expect(other.asked({ method: 'HEAD', path: `/v2/b/public/blobs/${blob.digest}` })).toHaveLength(1);
    expect(other.bytesSent({ method: 'GET' })).toBe(0);
  });

  it.each([
    [401, 404, 'BLOB_UNKNOWN'],
    [403, 403, 'DENIED'],
  ])('answers what the upstream of that repository says: %i', async (said, status, code) => {
    const blob = await stored('a/said', `said ${said}`);
    const path = `b/said${said}/blobs/${blob.digest}`;
    mirror.upstream.fault({ path: `/v2/${path}` }, { answer: { status: said } });
    const answer = await fetch(mirror.url(path));
    expect(answer.status).toBe(status);
    await expectSpecError(answer, status, code);
  });

  it.each(['b/confirmed', 'other.example/b/confirmed'])(
    'serves it under %s once it is confirmed there, and asks no more',
    async (repository) => {
      const { upstream, url } = mirror;
      const blob = await stored('a/shared', repository);
      const asked = repository.startsWith('other') ? other : upstream;
      asked.addBlob('b/confirmed', blob);
      const path = { path: `/v2/b/confirmed/blobs/${blob.digest}` };
      for (let times = 0; times < 3; times += 1) {
        const answer = await receive(url(`${repository}/blobs/${blob.digest}`));
        expect(answer).toMatchObject({ status: 200, end: 'complete', sha256: sha256(blob.bytes) });
      }
      expect(asked.asked(path)).toEqual([expect.objectContaining({ method: 'HEAD' })]);
    },
  );

  it.each([401, 403, 404])('while it runs for one repository, %i fails only the other', async (status) => {
    const { upstream, url } = mirror;
    const blob = blobOf(size, `running ${status}`);
    const go = Promise.withResolvers<void>();
    const [a, b] = [`a/run${status}/blobs/${blob.digest}`, `b/run${status}/blobs/${blob.digest}`];
    upstream.addBlob(`a/run${status}`, blob);
    upstream.fault({ path: `/v2/${a}` }, { stallAt: 100_000, until: go.promise });
    upstream.fault({ path: `/v2/${b}` }, { answer: { status } });
    using running = new SlowClient(url(a));
    await running.received(50_000);
    expect((await fetch(url(b))).status).toBe(status === 401 ? 404 : status);
    expect((await fetch(url(b), { method: 'HEAD' })).status).toBe(status === 401 ? 404 : status);
    go.resolve();
    expect((await running.finished).sha256).toBe(sha256(blob.bytes));
    expect(upstream.asked({ path: `/v2/${b}`, method: 'GET' })).toEqual([]);
  });

  it('joins a running transfer of another repository once its upstream has confirmed the blob', async () => {
    const { upstream, url } = mirror;
    const blob = blobOf(size, 'joined');
    const go = Promise.withResolvers<void>();
    const [a, b] = [`a/joined/blobs/${blob.digest}`, `b/joined/blobs/${blob.digest}`];
    for (const repository of ['a/joined', 'b/joined']) upstream.addBlob(repository, blob);
    upstream.fault({ path: `/v2/${a}` }, { stallAt: 100_000, until: go.promise });
    using first = new SlowClient(url(a));
    await first.received(50_000);
    using second = new SlowClient(url(b));
    await second.received(50_000);
    go.resolve();
    for (const client of [first, second]) expect((await client.finished).sha256).toBe(sha256(blob.bytes));
    await untilIdle(mirror.cistern);
    expect((await receive(url(b))).end).toBe('complete');
    expect(upstream.asked({ path: `/v2/${b}` })).toEqual([expect.objectContaining({ method: 'HEAD' })]);
  });

  it.each(['stored', 'refused'] as const)(
    'is right for a repository that is confirmed only after the other transfer was %s',
    async (result) => {
      const { upstream, cistern, url } = mirror;
      const blob = blobOf(size, `after ${result}`);
      const [transfer, head] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const [a, b] = [`a/${result}/blobs/${blob.digest}`, `b/${result}/blobs/${blob.digest}`];
      for (const repository of [`a/${result}`, `b/${result}`]) upstream.addBlob(repository, blob);
      upstream.fault(
        { method: 'GET', path: `/v2/${a}` },
        {
          headersAfter: transfer.promise,
          ...(result === 'refused' ? { answer: { status: 404 } } : {}),
        },
      );
      upstream.fault({ method: 'HEAD', path: `/v2/${b}` }, { headersAfter: head.promise });
      const first = receive(url(a));
      await upstream.until(() => upstream.asked({ path: `/v2/${a}` }).length === 1);
      const second = receive(url(b));
      await upstream.until(() => upstream.asked({ path: `/v2/${b}` }).length === 1);
      transfer.resolve();
      expect((await first).status).toBe(result === 'stored' ? 200 : 404);
      await untilIdle(cistern);
      head.resolve();
      expect(await second).toMatchObject({ status: 200, end: 'complete', sha256: sha256(blob.bytes) });
      await untilIdle(cistern);
      await upstream.down();
      try {
        expect((await receive(url(b))).end).toBe('complete');
      } finally {
        await upstream.up();
      }
    },
  );

  const page = '<html>log in</html>';
  const html = { 'content-type': 'text/html' };
  const lies: readonly (readonly [string, Fault])[] = [
    ['a login page', { answer: { status: 200, headers: html, body: page } }],
    ['a login page of the same size', { answer: { status: 200, headers: html, body: Buffer.alloc(size) } }],
    ['a redirect to a login page', { redirect: '/login' }],
    ['a redirect to a refusal', { redirect: '/refused' }],
    ['another size', { answer: { status: 200, body: 'x' } }],
    ['no size', { answer: { status: 200, body: Buffer.alloc(size) }, chunked: true }],
    [
      'another digest',
      {
        answer: {
          status: 200,
          headers: { 'docker-content-digest': digestOf(Buffer.from('another')) },
          body: Buffer.alloc(size),
        },
      },
    ],
  ];

  describe.each(lies)('with an upstream that answers everything with %s', (name, lie) => {
    const [a, b] = [`a/${name.replaceAll(' ', '-')}`, `b/${name.replaceAll(' ', '-')}`];
    beforeAll(() => {
      mirror.upstream.fault({ path: /^\/v2\/b\// }, lie);
      mirror.upstream.fault({ path: '/login' }, { answer: { status: 200, headers: html, body: page } });
      mirror.upstream.fault({ path: '/refused' }, { answer: { status: 403 } });
    });
    afterAll(() => mirror.upstream.clearFaults());

    /** Expects that a client gets nothing of the private content. */
    async function expectNothing(path: string, content: Buffer): Promise<void> {
      const response = await fetch(mirror.url(path)).catch(() => undefined); // or cut before its headers
      if (response === undefined) return;
      const body = await bodyOf(response);
      expect(body.includes(content.subarray(0, 100))).toBe(false);
      expect(response.status === 200 && body.byteLength === content.byteLength).toBe(false);
    }

    it('does not serve a stored blob', async () => {
      const blob = await stored(a, name);
      const path = `${b}/blobs/${blob.digest}`;
      await expectNothing(path, blob.bytes);
      const range = { headers: { range: 'bytes=0-99' } };
      expect((await fetch(mirror.url(path), range).catch(() => undefined))?.status).not.toBe(206);
      await untilIdle(mirror.cistern);
      await expectNothing(path, blob.bytes);
    });

    it('does not serve a blob that another repository is fetching', async () => {
      const blob = blobOf(size, `running ${name}`);
      const go = Promise.withResolvers<void>();
      const path = `${a}/blobs/${blob.digest}`;
      mirror.upstream.addBlob(a, blob);
      mirror.upstream.fault({ path: `/v2/${path}` }, { stallAt: 100_000, until: go.promise });
      using running = new SlowClient(mirror.url(path));
      await running.received(50_000);
      const asked = expectNothing(`${b}/blobs/${blob.digest}`, blob.bytes);
      await mirror.upstream.until(
        () => mirror.upstream.asked({ path: `/v2/${b}/blobs/${blob.digest}` }).length > 0,
      );
      go.resolve();
      await asked;
      expect((await running.finished).sha256).toBe(sha256(blob.bytes));
    });

    it('does not serve a stored manifest', async () => {
      const { manifest } = imageOf({ layers: [randomLayer(100, name)] });
      mirror.upstream.addManifest(a, manifest);
      expect((await fetch(mirror.url(`${a}/manifests/${manifest.digest}`))).status).toBe(200);
      const answer = await fetch(mirror.url(`${b}/manifests/${manifest.digest}`));
      expect(answer.status).toBe(503);
    });
  });

  it('confirms by a GET of one byte if the storage behind the upstream accepts only signed GETs', async () => {
    const { upstream, url } = mirror;
    const blob = await stored('a/signed', 'signed');
    const path = `b/signed/blobs/${blob.digest}`;
    upstream.addFile('/signed', blob.bytes);
    upstream.fault({ path: `/v2/${path}` }, { redirect: '/signed' });
    upstream.fault({ method: 'HEAD', path: '/signed' }, { answer: { status: 403 } });
    expect(await receive(url(path))).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    expect(upstream.bytesSent({ path: '/signed' })).toBe(1);
  });

  it('fetches the blob from an upstream that does not name its size', async () => {
    const { upstream, url, cistern } = mirror;
    const blob = await stored('a/silent', 'silent');
    const path = `b/silent/blobs/${blob.digest}`;
    upstream.addBlob('b/silent', blob);
    upstream.fault({ path: `/v2/${path}` }, { chunked: true, ignoreRange: true });
    expect(await receive(url(path))).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    await untilIdle(cistern);
    expect(upstream.bytesSent({ path: `/v2/${path}` })).toBeGreaterThanOrEqual(size);
    await upstream.down();
    try {
      expect((await receive(url(path))).sha256).toBe(sha256(blob.bytes));
    } finally {
      await upstream.up();
    }
  });

  it('tells nothing of a transfer under the repository whose upstream refused it', async () => {
    const { upstream, url } = mirror;
    const blob = blobOf(size, 'told');
    const [refusal, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const [a, b] = [`a/told/blobs/${blob.digest}`, `b/told/blobs/${blob.digest}`];
    upstream.addBlob('b/told', blob);
    upstream.fault(
      { method: 'GET', path: `/v2/${a}` },
      { headersAfter: refusal.promise, answer: { status: 404 } },
    );
    upstream.fault({ method: 'HEAD', path: `/v2/${a}` }, { answer: { status: 404 } });
    upstream.fault({ method: 'GET', path: `/v2/${b}` }, { stallAt: 1000, until: go.promise });
    const first = receive(url(a));
    await upstream.until(() => upstream.asked({ path: `/v2/${a}` }).length === 1);
    using second = new SlowClient(url(b));
    await upstream.until(() => upstream.asked({ method: 'HEAD', path: `/v2/${b}` }).length === 1);
    refusal.resolve();
    expect((await first).status).toBe(404);
    await second.received(500);
    expect((await fetch(url(a), { method: 'HEAD' })).status).toBe(404);
    go.resolve();
    expect((await second.finished).sha256).toBe(sha256(blob.bytes));
  });

  it('serves a manifest by digest only where it is confirmed', async () => {
    const { upstream, url } = mirror;
    const { manifest } = imageOf({ layers: [randomLayer(100, 'private')] });
    upstream.addManifest('a/manifest', manifest);
    upstream.addManifest('c/manifest', manifest);
    upstream.addBlob('b/manifest', blobOf(10, 'b'));
    expect((await fetch(url(`a/manifest/manifests/${manifest.digest}`))).status).toBe(200);
    await expectSpecError(
      await fetch(url(`b/manifest/manifests/${manifest.digest}`)),
      404,
      'MANIFEST_UNKNOWN',
    );
    for (let times = 0; times < 2; times += 1) {
      expect((await fetch(url(`c/manifest/manifests/${manifest.digest}`))).status).toBe(200);
    }
    expect(upstream.asked({ path: `/v2/c/manifest/manifests/${manifest.digest}` })).toEqual([
      expect.objectContaining({ method: 'HEAD' }),
    ]);
    expect(upstream.asked({ method: 'GET', path: /\/manifest\/manifests\// })).toHaveLength(1);
  });

  it('with the upstream down, serves where it is linked and 503 where it is not', async () => {
    const { upstream, url } = mirror;
    const blob = await stored('a/down', 'down');
    await upstream.down();
    try {
      expect((await receive(url(`a/down/blobs/${blob.digest}`))).sha256).toBe(sha256(blob.bytes));
      await expectSpecError(await fetch(url(`b/down/blobs/${blob.digest}`)), 503, 'UNAVAILABLE');
      expect((await fetch(url(`b/down/blobs/${blob.digest}`), { method: 'HEAD' })).status).toBe(503);
    } finally {
      await upstream.up();
    }
  });
});
