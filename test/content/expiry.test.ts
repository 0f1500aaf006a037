import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { blobPath } from '../../src/storage/layout.js';
import { lacks } from '../parts/debian.js';
import { startDockerRegistry } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { contentsOf, type Image, imageOf, linuxAmd64, randomLayer } from '../parts/image.js';
import { filesUnder, metric, sha256, startMirror, untilIdle } from '../parts/mirror.js';
import { overlay, type Settings } from '../parts/cistern.js';
import { until } from '../parts/process.js';
import { pushImage } from '../parts/push.js';
import { describeOverStores } from '../parts/stores.js';
import { patience } from '../parts/patience.js';

const shared = randomLayer(2_000_000, 'shared by both');
const used = imageOf({ platform: linuxAmd64, layers: [shared, randomLayer(500_000, 'of the used one')] });
const unused = imageOf({
  platform: linuxAmd64,
  layers: [shared, randomLayer(1_500_000, 'of the unused one')],
});

/** Deletes as soon as it can, so that a test does not take a quarter of an hour. */
const hasty: Settings = {
  storage: { delete: { enabled: true } },
  scheduler: { grace: '1s', expire: { schedule: '1s' }, evict: { schedule: '1s' } },
};

/** All of it, as clients ask for it. Returns what was wrong. */
async function pull(url: string, repository: string, tag: string, image: Image): Promise<string[]> {
  const { manifests, blobs } = contentsOf(image);
  const wanted = [
    [`manifests/${tag}`, image.manifest.digest],
    ...manifests.map(({ digest }) => [`manifests/${digest}`, digest]),
    ...blobs.map(({ digest }) => [`blobs/${digest}`, digest]),
  ];
  const wrong: string[] = [];
  for (const [path, digest] of wanted) {
    try {
      const answer = await fetch(`${url}/v2/${repository}/${path}`, {
        headers: { accept: image.manifest.mediaType },
      });
      const found = `sha256:${sha256(await answer.bytes())}`;
      if (answer.status !== 200 || found !== digest) wrong.push(`${path}: ${answer.status}`);
    } catch (error) {
      wrong.push(`${path}: ${String(error)}`);
    }
  }
  return wrong;
}

describeOverStores('two images that share layers', [], (newStore) => {
  it('the one that is not used goes, with what is its own; the other is served without its upstream', async () => {
    await using store = await newStore();
    await using mirror = await startMirror({
      root: store.root,
      config: overlay(hasty, store.config),
      proxy: overlay({ ttl: '10s' }, (store.config['proxy'] ?? {}) as Settings),
    });
    const { upstream, cistern } = mirror;
    upstream.addImage('team/unused', 'v1', unused);
    upstream.addImage('team/used', 'v1', used);
    expect(await pull(cistern.url, 'team/unused', 'v1', unused)).toEqual([]);
    expect(await pull(cistern.url, 'team/used', 'v1', used)).toEqual([]);
    await untilIdle(cistern);
    const all = [unused, used].flatMap((image) => Object.values(contentsOf(image)).flat());
    const digests = new Set(all.map(({ digest }) => digest));
    expect(new Set(await store.blobs())).toEqual(digests);

    // A manifest's use is one of its layers.
    const lasting = new Set(
      Object.values(contentsOf(used)).flatMap((contents) => contents.map(({ digest }) => digest)),
    );
    const head = `${cistern.url}/v2/team/used/manifests/v1`;
    // While something is being deleted the store cannot be looked over in one go: then it is looked over again.
    const left = async (): Promise<Set<string>> => {
      expect((await fetch(head, { method: 'HEAD' })).status).toBe(200);
      return new Set(await store.blobs());
    };
    await expect.poll(left, { interval: 200 }).toEqual(lasting);
    await expect
      .poll(async () => (await fetch(`${cistern.url}/v2/_catalog`)).json())
      .toEqual({ repositories: ['team/used'] });

    await upstream.down();
    expect(await pull(cistern.url, 'team/used', 'v1', used)).toEqual([]);
    const gone = await fetch(`${cistern.url}/v2/team/unused/blobs/${shared.digest}`);
    expect(gone.status).toBe(503); // its repository does not have it any more, and nobody can be asked
    await gone.arrayBuffer();
  });
});

describe.skipIf(lacks('docker-registry'))('the same two images in registry:2, for comparison', () => {
  it('the used one breaks when the other expires', async () => {
    await using folder = await temporaryFolder();
    await using upstream = await startDockerRegistry();
    await pushImage({ url: upstream.url, repository: 'team/unused' }, 'v1', unused);
    await pushImage({ url: upstream.url, repository: 'team/used' }, 'v1', used);
    const proxy = { remoteurl: upstream.url };
    const schedule = join(folder.path, 'scheduler-state.json');
    const entries = async (): Promise<Record<string, { ExpiryData: string }>> =>
      JSON.parse(await readFile(schedule, 'utf8')) as Record<string, { ExpiryData: string }>;
    {
      await using registry = await startDockerRegistry({ root: folder.path, deletes: true, proxy });
      expect(await pull(registry.url, 'team/unused', 'v1', unused)).toEqual([]);
      expect(await pull(registry.url, 'team/used', 'v1', used)).toEqual([]);
      const wanted = [unused, used].flatMap((image) => Object.values(contentsOf(image)).flat()).length;
      await until(
        async () =>
          (await filesUnder(folder.path)).includes('scheduler-state.json') &&
          Object.keys(await entries()).length >= wanted,
        patience(),
      );
    }
    const state = await entries();
    for (const [key, entry] of Object.entries(state)) {
      if (key.startsWith('team/unused@')) entry.ExpiryData = new Date(Date.now() - 1000).toISOString();
    }
    await writeFile(schedule, JSON.stringify(state));
    await using registry = await startDockerRegistry({ root: folder.path, deletes: true, proxy });
    const data = join(folder.path, blobPath(shared.digest));
    const there = (): Promise<boolean> =>
      stat(data).then(
        () => true,
        () => false,
      );
    await until(async () => !(await there()), patience());
    await upstream.stop();
    expect(await pull(registry.url, 'team/used', 'v1', used)).not.toEqual([]);
  });
});

describe('a store that is kept at half of what is pulled', () => {
  it('gives every client what it asked for, all the while', async () => {
    const images = Array.from({ length: 12 }, (_, n) =>
      imageOf({
        platform: linuxAmd64,
        layers: [randomLayer(400_000, 'base'), randomLayer(1_000_000, `evicted ${n}`)],
      }),
    );
    const maxsize = 6_000_000;
    await using mirror = await startMirror({ config: hasty, proxy: { maxsize } });
    const { upstream, cistern } = mirror;
    for (const [n, image] of images.entries()) upstream.addImage(`team/app${n % 3}`, `v${n}`, image);
    const removed = (): Promise<number> => metric(cistern, 'cistern_removed_total', { what: 'blob' });
    const wrong: string[] = [];
    const enough = patience();
    // Each image is left alone for longer than the grace before its turn comes again.
    for (let n = 0; !enough.aborted && (await removed()) <= 40; n = (n + 1) % images.length) {
      const image = images[n];
      if (image === undefined) break;
      const clients = [1, 2, 3, 4].map(() => pull(cistern.url, `team/app${n % 3}`, `v${n}`, image));
      wrong.push(...(await Promise.all(clients)).flat());
      await delay(400);
    }
    expect(wrong).toEqual([]);
    expect(await removed()).toBeGreaterThan(40);
    // Left alone, it comes down to the mark.
    const bytes = async (): Promise<number> => {
      const data = (await filesUnder(cistern.root)).filter((path) => path.endsWith('/data'));
      const sizes = await Promise.all(data.map(async (path) => (await stat(join(cistern.root, path))).size));
      return sizes.reduce((sum, size) => sum + size, 0);
    };
    await expect.poll(bytes, { interval: 500 }).toBeLessThanOrEqual(maxsize);
  });
});
