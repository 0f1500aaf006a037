import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RecordedRequest } from '../fakes/fake-upstream.js';
import type { Fault } from '../fakes/fault.js';
import { receive } from '../fakes/slow-client.js';
import { LinkProxy } from '../fakes/link-proxy.js';
import { startCistern } from '../parts/cistern.js';
import type { Content } from '../parts/image.js';
import { blobOf, metric, type Mirror, sha256, soundStore, startMirror, untilIdle } from '../parts/mirror.js';
import { type Spoilt, spoilt } from './spoilt.js';

const size = 3_000_000;

describe('a transfer that breaks', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await startMirror();
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  const brought = (name: string, ...faults: readonly Fault[]): Spoilt =>
    spoilt(mirror.upstream, size, name, faults);

  async function expectRight(blob: Content, path: string): Promise<RecordedRequest[]> {
    expect(await receive(mirror.url(path))).toMatchObject({
      status: 200,
      bytes: size,
      end: 'complete',
      sha256: sha256(blob.bytes),
    });
    await untilIdle(mirror.cistern);
    expect((await soundStore(mirror.cistern.root)).blobs).toContain(blob.digest);
    return mirror.upstream.asked({ path: `/v2/${path}` });
  }

  it('goes on with Range from the byte that it reached, after a close and a reset', async () => {
    const { blob, path } = brought('twice', { cutAt: 1_000_000 }, { cutAt: 1_000_000, cut: 'reset' });
    const requests = await expectRight(blob, path);
    expect(requests.map(({ headers }) => headers.range)).toEqual([
      undefined,
      // What was still under way when the connection ended can be lost with it.
      expect.stringMatching(/^bytes=(9\d{5}|1000000)-$/),
      expect.stringMatching(/^bytes=(1\d{6}|2000000)-$/),
    ]);
    expect(await metric(mirror.cistern, 'cistern_transfer_resumes_total')).toBeGreaterThanOrEqual(2);
  });

  it('goes on after a stall', async () => {
    const { blob, path } = brought('stall', { stallAt: 1_000_000 });
    const requests = await expectRight(blob, path);
    expect(requests.map(({ headers }) => headers.range)).toEqual([undefined, 'bytes=1000000-']);
  });

  it('is right where the upstream ignores Range', async () => {
    const { blob, path } = brought('ignored', { cutAt: 1_000_000 }, { ignoreRange: true });
    expect(await expectRight(blob, path)).toHaveLength(2);
  });

  it.each([
    'bytes 0-1999999/3000000',
    'bytes 1000001-2999999/3000000',
    'bytes 1000000-2999998/3000000',
    'nonsense',
  ])('does not take the rest when it comes as %s', async (contentRange) => {
    const { blob, path } = brought(
      `wrong-${sha256(Buffer.from(contentRange)).slice(0, 8)}`,
      { cutAt: 1_000_000 },
      { contentRange },
    );
    expect(await expectRight(blob, path)).toHaveLength(3);
  });

  it('is right where the size is not told', async () => {
    const { blob, path } = brought('chunked', { chunked: true });
    expect(await expectRight(blob, path)).toHaveLength(1);
    const cut = brought('chunked-cut', { chunked: true, cutAt: 1_000_000 }, { chunked: true });
    expect((await expectRight(cut.blob, cut.path)).length).toBeGreaterThan(1);
  });

  it('waits out a few refusals in the middle', async () => {
    const { blob, path } = brought(
      'refused',
      { cutAt: 1_000_000 },
      { answer: { status: 503 } },
      { answer: { status: 500 } },
    );
    expect(await expectRight(blob, path)).toHaveLength(4);
  });

  it('is right over a link that corrupts nothing but breaks every connection', async () => {
    const { upstream } = mirror;
    await using link = await LinkProxy.start({ target: upstream.url });
    await using cistern = await startCistern({ config: { proxy: { remoteurl: link.url } } });
    const blob = blobOf(size, 'link');
    upstream.addBlob('link', blob);
    link.inject({ cutAt: 700_000 });
    const result = await receive(`${cistern.url}/v2/link/blobs/${blob.digest}`);
    expect(result).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    expect(link.connections).toBe(5);
  });
});
