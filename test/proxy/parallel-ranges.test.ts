import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Fault } from '../fakes/fault.js';
import { LinkProxy } from '../fakes/link-proxy.js';
import { receive } from '../fakes/slow-client.js';
import { startCistern } from '../parts/cistern.js';
import type { Content } from '../parts/image.js';
import { blobOf, metric, type Mirror, sha256, soundStore, startMirror, untilIdle } from '../parts/mirror.js';
import { type Spoilt, spoilt } from './spoilt.js';

const size = 14_000_000;
const ranges = { connections: 3, minsize: '5MB' };
const events = (mirror: Mirror, event: string): Promise<number> =>
  metric(mirror.cistern, 'cistern_upstream_ranges_total', { event });

describe('with proxy.ranges', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await startMirror({ proxy: { ranges } });
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  const brought = (name: string, ...faults: readonly Fault[]): Spoilt =>
    spoilt(mirror.upstream, size, name, faults);

  /** Whether a client gets it whole and right, and the store too. */
  async function comesRight(blob: Content, path: string): Promise<boolean> {
    const got = await receive(mirror.url(path));
    await untilIdle(mirror.cistern);
    const { blobs } = await soundStore(mirror.cistern.root);
    return got.end === 'complete' && got.sha256 === sha256(blob.bytes) && blobs.includes(blob.digest);
  }

  it('a blob comes right to several clients, each byte asked for once', async () => {
    const { blob, path } = brought('plain');
    const begun = await events(mirror, 'begun');
    expect(await Promise.all([comesRight(blob, path), comesRight(blob, path)])).toEqual([true, true]);
    const requests = mirror.upstream.asked({ method: 'GET', path: `/v2/${path}` });
    expect(requests).toHaveLength(4);
    expect(mirror.upstream.bytesSent({ path: `/v2/${path}` })).toBe(size);
    expect(await events(mirror, 'begun')).toBe(begun + 1);
  });

  it.each<[string, Fault[]]>([
    ['the first part is cut', [{ cutAt: 1_000_000 }]],
    ['the first part is cut at once', [{ cutAt: 1000 }]],
    ['another is cut', [{}, { cutAt: 1_000_000, cut: 'reset' }]],
    ['another is cut at once', [{}, { cutAt: 1000 }]],
    ['all are cut', [{ cutAt: 900_000 }, { cutAt: 800_000 }, { cutAt: 700_000 }, { cutAt: 10 }]],
    ['another gets 500', [{}, {}, { answer: { status: 500 } }]],
    ['the first gets 503', [{ answer: { status: 503 } }, { answer: { status: 503 } }]],
  ])('no client sees that %s', async (title, faults) => {
    const { blob, path } = brought(sha256(Buffer.from(title)).slice(0, 12), ...faults);
    expect(await comesRight(blob, path)).toBe(true);
  });

  it('corrupt bytes of a part are cut off, and the next client gets it right, over one connection', async () => {
    const { blob, path } = brought('corrupt', {}, { corruptAt: 4321 });
    expect(await receive(mirror.url(path))).toMatchObject({ status: 200, end: 'cut' });
    await untilIdle(mirror.cistern);
    expect((await soundStore(mirror.cistern.root)).blobs).not.toContain(blob.digest);
    const before = mirror.upstream.asked({ path: `/v2/${path}` }).length;
    expect(await comesRight(blob, path)).toBe(true);
    const after = mirror.upstream.asked({ path: `/v2/${path}` }).slice(before);
    expect(after.map(({ headers }) => headers.range)).toEqual([undefined]);
  });

  it('a manifest, and a blob below the least size, are asked for as ever', async () => {
    const blob = blobOf(1000, 'small');
    mirror.upstream.addBlob('small', blob);
    const result = await receive(mirror.url(`small/blobs/${blob.digest}`));
    expect(result).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    expect(mirror.upstream.asked({ path: `/v2/small/blobs/${blob.digest}` })).toHaveLength(1);
  });

  it('an upstream that ignores ranges is asked for whole blobs from then on; the log says so once', async () => {
    await using other = await startMirror({ proxy: { ranges } });
    const asked: (string | undefined)[] = [];
    for (const name of ['one', 'two', 'three']) {
      const blob = blobOf(size, name);
      other.upstream.addBlob(name, blob);
      other.upstream.fault({ path: `/v2/${name}/blobs/${blob.digest}` }, { ignoreRange: true });
      const result = await receive(other.url(`${name}/blobs/${blob.digest}`));
      expect(result).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
      asked.push(...other.upstream.asked({ path: /\/blobs\// }).map(({ headers }) => headers.range));
      other.upstream.requests.length = 0;
    }
    expect(asked).toEqual([expect.stringMatching(/^bytes=0-/), undefined, undefined]);
    expect(await events(other, 'objected')).toBe(1);
    await expect
      .poll(() => other.cistern.logRecords().filter(({ msg }) => /no parts of blobs/.test(String(msg))))
      .toHaveLength(1);
  });
});

it('an upstream of the list has proxy.ranges, or its own', async () => {
  await using mirror = await startMirror();
  const { upstream } = mirror;
  await using cistern = await startCistern({
    config: {
      proxy: {
        ranges,
        upstreams: [
          { host: 'one.test', url: upstream.url },
          { host: 'two.test', url: upstream.url, ranges: { connections: 1 } },
        ],
      },
    },
  });
  const asked: number[] = [];
  for (const host of ['one.test', 'two.test']) {
    const blob = blobOf(size, host);
    upstream.addBlob('a', blob);
    const result = await receive(`${cistern.url}/v2/a/blobs/${blob.digest}?ns=${host}`);
    expect(result).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    asked.push(upstream.asked({ path: `/v2/a/blobs/${blob.digest}` }).length);
  }
  expect(asked).toEqual([4, 1]);
});

it('where each connection has a limit, a blob comes over several at a time', async () => {
  await using mirror = await startMirror();
  const { upstream } = mirror;
  await using link = await LinkProxy.start({ target: upstream.url, connectionBytesPerSecond: 20_000_000 });
  await using cistern = await startCistern({ config: { proxy: { remoteurl: link.url, ranges } } });
  const blob = blobOf(size, 'limited');
  upstream.addBlob('a', blob);
  const most = Promise.withResolvers<void>();
  void link.until(() => link.connections >= 3).then(() => most.resolve());
  const result = await receive(`${cistern.url}/v2/a/blobs/${blob.digest}`);
  expect(result).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
  await most.promise;
});
