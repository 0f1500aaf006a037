import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receive } from '../fakes/slow-client.js';
import { imageOf, indexOf, randomLayer, type Image } from '../parts/image.js';
import { metric, type Mirror, soundStore, startMirror, untilIdle } from '../parts/mirror.js';

const image = (seed: string): Image =>
  imageOf({ layers: [1, 2, 3, 4, 5].map((each) => randomLayer(40_000, `${seed}-${each}`)) });
const blobsOf = ({ config, layers }: Image) => [config, ...layers];

describe('with proxy.siblings', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await startMirror({ proxy: { siblings: true } });
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  const get = (path: string, method = 'GET') => fetch(mirror.url(path), { method });
  const settled = (result: string): Promise<number> =>
    metric(mirror.cistern, 'cistern_siblings_total', { result });
  /** Blobs that the upstream was asked for, and how often. */
  const asked = ({ layers, config }: Image): number[] =>
    [config, ...layers].map(
      ({ digest }) => mirror.upstream.asked({ method: 'GET', path: new RegExp(`/blobs/${digest}$`) }).length,
    );

  it('the layers of an image come with the GET of its manifest, each once', async () => {
    const item = image('all');
    mirror.upstream.addImage('team/all', 'v1', item);
    const before = await settled('fetched');
    const answer = await get('team/all/manifests/v1');
    expect(answer.headers.get('docker-content-digest')).toBe(item.manifest.digest);
    // A client that asks for one of them meanwhile joins its transfer.
    const [, , layer] = item.layers;
    const got = await receive(mirror.url(`team/all/blobs/${layer?.digest}`));
    expect(got).toMatchObject({ status: 200, end: 'complete', bytes: layer?.size });
    await expect.poll(() => settled('fetched')).toBeGreaterThanOrEqual(before + 5);
    await untilIdle(mirror.cistern);
    const { blobs } = await soundStore(mirror.cistern.root);
    expect(blobs).toEqual(expect.arrayContaining(blobsOf(item).map(({ digest }) => digest)));
    expect(asked(item)).toEqual([1, 1, 1, 1, 1, 1]);
  });

  it('a HEAD, an index and its other images bring none', async () => {
    const [head, taken, other] = [image('head'), image('taken'), image('other')];
    mirror.upstream.addImage('team/head', 'v1', head);
    const index = indexOf([taken, other]);
    mirror.upstream.addImage('team/index', 'v1', index);
    const before = await settled('fetched');
    expect((await get('team/head/manifests/v1', 'HEAD')).status).toBe(200);
    expect((await get('team/index/manifests/v1')).status).toBe(200);
    expect((await get(`team/index/manifests/${taken.manifest.digest}`)).status).toBe(200);
    // They come in the order of the requests: what would have come for the others would be here.
    await expect.poll(() => settled('fetched')).toBe(before + 6);
    expect([...asked(head), ...asked(other)]).toEqual(Array(12).fill(0));
    expect(asked(taken)).toEqual(Array(6).fill(1));
  });
});

it('without it, blobs are fetched when they are asked for', async () => {
  await using mirror = await startMirror();
  const item = image('off');
  mirror.upstream.addImage('team/off', 'v1', item);
  expect((await fetch(mirror.url('team/off/manifests/v1'))).status).toBe(200);
  expect(await receive(mirror.url(`team/off/blobs/${item.config.digest}`))).toMatchObject({
    end: 'complete',
  });
  await untilIdle(mirror.cistern);
  expect(mirror.upstream.asked({ method: 'GET', path: /\/blobs\// })).toHaveLength(1);
});
