import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receive, SlowClient } from '../fakes/slow-client.js';
import type { Content } from '../parts/image.js';
import {
  blobOf,
  expectSpecError,
  metric,
  type Mirror,
  sha256,
  soundStore,
  startMirror,
  untilIdle,
} from '../parts/mirror.js';

const size = 1_000_000;

describe('ranges', () => {
  let mirror: Mirror;
  let warm: Content;
  let warmUrl: string;
  beforeAll(async () => {
    mirror = await startMirror();
    warm = blobOf(size, 'warm');
    warmUrl = mirror.url(`warm/blobs/${warm.digest}`);
    mirror.upstream.addBlob('warm', warm);
    await receive(warmUrl);
    await untilIdle(mirror.cistern);
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  it.each([
    ['bytes=0-0', 0, 0],
    ['bytes=0-99', 0, 99],
    ['bytes=500000-599999', 500_000, 599_999],
    ['bytes=999999-999999', 999_999, 999_999],
    ['bytes=999000-', 999_000, 999_999],
    ['bytes=999000-5000000', 999_000, 999_999],
    ['bytes=-1000', 999_000, 999_999],
    ['bytes=-5000000', 0, 999_999],
  ])('%s of a stored blob', async (range, start, end) => {
    const answer = await fetch(warmUrl, { headers: { range } });
    expect(answer.status).toBe(206);
    expect(answer.headers.get('content-range')).toBe(`bytes ${start}-${end}/${size}`);
    expect(answer.headers.get('content-length')).toBe(String(end - start + 1));
    expect(answer.headers.get('docker-content-digest')).toBe(warm.digest);
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(warm.bytes.subarray(start, end + 1));
  });

  it.each(['bytes=1000000-', 'bytes=1000000-1000001', 'bytes=-0'])('%s is outside', async (range) => {
    const answer = await fetch(warmUrl, { headers: { range } });
    expect(answer.headers.get('content-range')).toBe(`bytes */${size}`);
    await expectSpecError(answer, 416, 'RANGE_INVALID');
  });

  it.each(['bytes=0-1,5-6', 'bytes=5-2', 'lines=1-2', 'bytes=', 'bytes=a-b', 'bytes=--1', ''])(
    '"%s" is answered with the whole',
    async (range) => {
      const answer = await fetch(warmUrl, { headers: { range } });
      expect(answer.status).toBe(200);
      expect(sha256(Buffer.from(await answer.arrayBuffer()))).toBe(sha256(warm.bytes));
    },
  );

  it('If-Range: the part where the digest is that of the blob, else the whole', async () => {
    const part = { range: 'bytes=0-9' };
    const same = await fetch(warmUrl, { headers: { ...part, 'if-range': `"${warm.digest}"` } });
    expect(same.status).toBe(206);
    await same.arrayBuffer();
    for (const condition of ['"sha256:other"', `W/"${warm.digest}"`, 'Sat, 29 Oct 1994 19:43:31 GMT']) {
      const answer = await fetch(warmUrl, { headers: { ...part, 'if-range': condition } });
      expect(answer.status).toBe(200);
      await answer.arrayBuffer();
    }
  });

  it('asked the upstream for nothing of all that', () => {
    expect(mirror.upstream.asked({ path: /^\/v2\/warm\// })).toHaveLength(1);
  });

  it('of a blob on its way: near ones from the spool, far ones apart, latecomers from the start', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, 'running');
    const path = `running/blobs/${blob.digest}`;
    const go = Promise.withResolvers<void>();
    upstream.addBlob('running', blob);
    upstream.fault({ path: `/v2/${path}`, nth: 1 }, { stallAt: 400_000, until: go.promise });
    using whole = new SlowClient(url(path));
    await whole.received(300_000);
    const near = await receive(url(path), { headers: { range: 'bytes=1000-1999' } });
    expect(near).toMatchObject({ status: 206, sha256: sha256(blob.bytes.subarray(1000, 2000)) });
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
    const far = await receive(url(path), { headers: { range: 'bytes=700000-799999' } });
    expect(far).toMatchObject({
      status: 206,
      end: 'complete',
      sha256: sha256(blob.bytes.subarray(700_000, 800_000)),
    });
    expect(far.headers['content-range']).toBe(`bytes 700000-799999/${size}`);
    expect(upstream.asked({ path: `/v2/${path}` }).at(-1)?.headers.range).toBe('bytes=700000-799999');
    expect(await metric(cistern, 'cistern_range_requests_total')).toBe(1);
    expect(await metric(cistern, 'cistern_transfers_running')).toBe(1);
    await expectSpecError(
      await fetch(url(path), { headers: { range: `bytes=${size}-` } }),
      416,
      'RANGE_INVALID',
    );
    using late = new SlowClient(url(path));
    await late.received(300_000);
    go.resolve();
    for (const client of [whole, late]) {
      expect(await client.finished).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    }
  });

  it('falls back to the transfer where the upstream has no ranges', async () => {
    const { upstream, url } = mirror;
    const blob = blobOf(size, 'rangeless');
    const path = `rangeless/blobs/${blob.digest}`;
    const go = Promise.withResolvers<void>();
    upstream.addBlob('rangeless', blob);
    upstream.fault({ path: `/v2/${path}`, nth: 1 }, { stallAt: 400_000, until: go.promise });
    upstream.fault({ path: `/v2/${path}`, nth: 2 }, { ignoreRange: true });
    const far = receive(url(path), { headers: { range: 'bytes=700000-799999' } });
    await upstream.until(() => upstream.asked({ path: `/v2/${path}` }).length === 2);
    go.resolve();
    expect(await far).toMatchObject({ status: 206, sha256: sha256(blob.bytes.subarray(700_000, 800_000)) });
  });

  it('HEAD of a cold blob asks for its size and fetches nothing', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, 'cold');
    const path = `cold/blobs/${blob.digest}`;
    upstream.addBlob('cold', blob);
    const answer = await fetch(url(path), { method: 'HEAD' });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-length')).toBe(String(size));
    expect(answer.headers.get('docker-content-digest')).toBe(blob.digest);
    expect(upstream.asked({ path: `/v2/${path}` })).toEqual([expect.objectContaining({ method: 'HEAD' })]);
    expect((await soundStore(cistern.root)).blobs).not.toContain(blob.digest);
  });

  it('serves a blob without a byte', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(0, 'empty');
    const path = `empty/blobs/${blob.digest}`;
    upstream.addBlob('empty', blob);
    for (let times = 0; times < 2; times += 1) {
      const answer = await fetch(url(path));
      expect(answer.status).toBe(200);
      expect(answer.headers.get('content-length')).toBe('0');
      expect((await answer.arrayBuffer()).byteLength).toBe(0);
      await untilIdle(cistern);
    }
    await expectSpecError(await fetch(url(path), { headers: { range: 'bytes=0-' } }), 416, 'RANGE_INVALID');
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
    expect((await soundStore(cistern.root)).blobs).toContain(blob.digest);
  });
});
