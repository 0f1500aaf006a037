import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receive, SlowClient } from '../fakes/slow-client.js';
import { contentOf, imageOf, randomLayer } from '../parts/image.js';
import {
  blobOf,
  expectSpecError,
  metric,
  type Mirror,
  sha256,
  soundStore,
  spooled,
  startMirror,
  untilIdle,
} from '../parts/mirror.js';

const size = 1_000_000;

describe('rule 1: verified before it counts', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await startMirror();
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  it.each([
    ['the first byte', 0],
    ['a byte in the middle', size / 2],
    ['the very last byte', size - 1],
  ])(
    'cuts a blob of which %s is wrong, stores nothing, and gives the right one next',
    async (place, corruptAt) => {
      const { upstream, cistern, url } = mirror;
      const blob = blobOf(size, place);
      const path = `wrong/blobs/${blob.digest}`;
      upstream.addBlob('wrong', blob);
      upstream.fault({ method: 'GET', path: `/v2/${path}`, times: 1 }, { corruptAt });
      const before = await metric(cistern, 'cistern_digest_mismatches_total', { type: 'blob' });
      const { end, bytes } = await receive(url(path));
      expect(end).not.toBe('complete');
      expect(bytes).toBeLessThan(size);
      await untilIdle(cistern);
      expect((await soundStore(cistern.root)).blobs).not.toContain(blob.digest);
      await expect.poll(() => spooled(cistern.root)).toEqual([]);
      expect(await metric(cistern, 'cistern_digest_mismatches_total', { type: 'blob' })).toBe(before + 1);
      expect(await receive(url(path))).toMatchObject({
        status: 200,
        end: 'complete',
        sha256: sha256(blob.bytes),
      });
    },
  );

  it('cuts whoever came later or asked for a part with the last byte, even one fetched apart', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, 'late');
    const path = `late/blobs/${blob.digest}`;
    const go = Promise.withResolvers<void>();
    upstream.addBlob('late', blob);
    upstream.fault(
      { method: 'GET', path: `/v2/${path}`, nth: 1 },
      { corruptAt: 1000, stallAt: 200_000, until: go.promise },
    );
    using first = new SlowClient(url(path));
    await first.received(150_000);
    using joined = new SlowClient(url(path));
    using tail = new SlowClient(url(path), { headers: { range: `bytes=${size - 300_000}-` } });
    using suffix = new SlowClient(url(path), { headers: { range: 'bytes=-1' } });
    await joined.received(150_000);
    // All of the range but its last byte is had from upstream; that one waits for the verdict.
    await tail.received(299_999);
    go.resolve();
    for (const client of [first, joined, tail]) {
      expect((await client.finished).end).not.toBe('complete');
    }
    // It would have been the one byte: there is nothing to begin an answer with.
    await expect(suffix.finished).rejects.toThrow('socket hang up');
    expect((await first.finished).bytes).toBeLessThan(size);
    expect((await tail.finished).bytes).toBe(299_999);
    await untilIdle(cistern);
    expect((await soundStore(cistern.root)).blobs).not.toContain(blob.digest);
  });

  it('serves a part that was fetched apart to its last byte when the transfer ended meanwhile', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, 'apart');
    const path = `apart/blobs/${blob.digest}`;
    const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    upstream.addBlob('apart', blob);
    upstream.fault({ method: 'GET', path: `/v2/${path}`, nth: 1 }, { stallAt: 1000, until: first.promise });
    upstream.fault({ method: 'GET', path: `/v2/${path}`, nth: 2 }, { stallAt: 1000, until: second.promise });
    using whole = new SlowClient(url(path));
    await whole.received(1000);
    using tail = new SlowClient(url(path), { headers: { range: `bytes=${size - 100_000}-` } });
    await tail.received(1000);
    first.resolve();
    expect((await whole.finished).sha256).toBe(sha256(blob.bytes));
    await untilIdle(cistern);
    second.resolve();
    expect(await tail.finished).toMatchObject({
      status: 206,
      end: 'complete',
      sha256: sha256(blob.bytes.subarray(-100_000)),
    });
  });

  it.each([
    ['fewer', size - 1000],
    ['no', 0],
    ['more', size + 1000],
  ])('never ends a body for which upstream declares %s bytes than it has', async (word, contentLength) => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, word);
    const path = `length/blobs/${blob.digest}`;
    upstream.addBlob('length', blob);
    upstream.fault({ path: `/v2/${path}`, times: 1 }, { contentLength });
    const outcome = await receive(url(path)).then(
      ({ end, status }) => `${status} ${end}`,
      () => 'no answer',
    );
    expect(outcome).not.toBe('200 complete');
    await untilIdle(cistern);
    expect((await soundStore(cistern.root)).blobs).not.toContain(blob.digest);
    expect(await receive(url(path))).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
  });

  it('answers 503 for a manifest that is not what its digest says, and stores nothing', async () => {
    const { upstream, cistern, url } = mirror;
    const image = imageOf({ layers: [randomLayer(1000, 'm')] });
    const other = contentOf(image.manifest.mediaType, Buffer.from(`${image.manifest.bytes.toString()}\n`));
    upstream.addManifest('m', image.manifest, 'v1');
    const path = `m/manifests/${image.manifest.digest}`;
    upstream.fault(
      { method: 'GET', path: `/v2/${path}`, times: 2 },
      { answer: { status: 200, body: other.bytes } },
    );
    await expectSpecError(await fetch(url(path)), 503, 'UNAVAILABLE');
    await expectSpecError(await fetch(url('m/manifests/v1')), 503, 'UNAVAILABLE');
    expect(await metric(cistern, 'cistern_digest_mismatches_total', { type: 'manifest' })).toBe(2);
    const { blobs, links } = await soundStore(cistern.root);
    expect(blobs).not.toContain(image.manifest.digest);
    expect(blobs).not.toContain(other.digest);
    expect(Object.keys(links).filter((link) => link.startsWith('m/'))).toEqual([]);
    const answer = await fetch(url('m/manifests/v1'));
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(image.manifest.bytes);
  });
});
