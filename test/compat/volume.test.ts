import { cp, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { collectGarbage, type DockerRegistry, startDockerRegistry } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import {
  type Content,
  contentsOf,
  imageOf,
  type ImageIndex,
  indexOf,
  layerOf,
  randomLayer,
} from '../parts/image.js';
import { filesUnder, sha256, soundStore, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { pushImage } from '../parts/push.js';
import { patience } from '../parts/patience.js';

const repository = 'team/app';
const schedule = 'scheduler-state.json';

function imagesOf(seed: string): ImageIndex {
  const image = (architecture: string) =>
    imageOf({
      platform: { os: 'linux', architecture },
      layers: [layerOf({ seed }), randomLayer(200_000, `${seed} for ${architecture}`)],
    });
  return indexOf([image('amd64'), image('arm64')]);
}

/** Asks for all of it as clients do, the tag first, and compares every byte. */
async function expectServed(
  server: { readonly url: string },
  tag: string,
  item: ImageIndex,
  name = repository,
  query = '',
): Promise<void> {
  const { manifests, blobs } = contentsOf(item);
  const accept = manifests.map(({ mediaType }) => mediaType).join(', ');
  const paths: [string, Content][] = [
    [`manifests/${tag}`, item.manifest],
    ...manifests.map((manifest): [string, Content] => [`manifests/${manifest.digest}`, manifest]),
    ...blobs.map((blob): [string, Content] => [`blobs/${blob.digest}`, blob]),
  ];
  for (const [path, content] of paths) {
    const answer = await fetch(`${server.url}/v2/${name}/${path}${query}`, { headers: { accept } });
    const sum = sha256(new Uint8Array(await answer.arrayBuffer()));
    expect({ path, status: answer.status, digest: `sha256:${sum}` }).toEqual({
      path,
      status: 200,
      digest: content.digest,
    });
  }
}

/** How often it was asked for content, its log read when it has written the last line. */
async function fetches(upstream: DockerRegistry): Promise<{ blobs: number; manifests: number }> {
  const marker = `/v2/?${upstream.accessLog().length}`;
  await fetch(upstream.url + marker);
  await until(() => upstream.accessLog().some(({ path }) => path === marker), patience());
  const gets = upstream.accessLog().filter(({ method }) => method === 'GET');
  return {
    blobs: gets.filter(({ path }) => path.includes('/blobs/')).length,
    manifests: gets.filter(({ path }) => path.includes('/manifests/')).length,
  };
}

interface Scheduled {
  ExpiryData: string;
}

async function readSchedule(root: string): Promise<Record<string, Scheduled>> {
  return JSON.parse(await readFile(join(root, schedule), 'utf8')) as Record<string, Scheduled>;
}

/** A volume as registry:2 leaves it after it has mirrored the image. */
async function fillByRegistry(root: string, upstream: DockerRegistry, item: ImageIndex): Promise<void> {
  await using registry = await startDockerRegistry({ root, proxy: { remoteurl: upstream.url } });
  await expectServed(registry, 'v1', item);
  // It stores after it has answered, and writes its schedule every few seconds.
  const { manifests, blobs } = contentsOf(item);
  const wanted = new Set([...manifests, ...blobs].map(({ digest }) => digest));
  await until(
    async () =>
      (await filesUnder(root)).includes(schedule) &&
      Object.keys(await readSchedule(root)).length >= wanted.size,
    patience(),
  );
}

/** As if the volume had lain somewhere for a month. */
async function expire(root: string): Promise<void> {
  const entries = await readSchedule(root);
  for (const entry of Object.values(entries))
    entry.ExpiryData = new Date(Date.now() - 30 * 86_400_000).toISOString();
  await writeFile(join(root, schedule), JSON.stringify(entries));
}

describe.skipIf(lacks('docker-registry'))("registry:2's volume", () => {
  it('is served as it is: no content is fetched again, and its upstream may be gone', async () => {
    await using folder = await temporaryFolder();
    await using upstream = await startDockerRegistry();
    const item = imagesOf('adopted');
    await pushImage({ url: upstream.url, repository }, 'v1', item);
    await fillByRegistry(folder.path, upstream, item);
    const [before, files] = [await fetches(upstream), await filesUnder(folder.path)];
    await using cistern = await startCistern({
      root: folder.path,
      config: { proxy: { remoteurl: upstream.url, freshness: '1ms' } },
    });
    await expectServed(cistern, 'v1', item);
    expect(await fetches(upstream)).toEqual(before);

    await upstream.stop();
    await expectServed(cistern, 'v1', item);
    const now = await filesUnder(folder.path);
    expect(now).not.toContain(schedule);
    expect(now).toContain(`cistern/adopted/${schedule}`);
    expect(now).toEqual(expect.arrayContaining(files.filter((file) => file !== schedule)));
  });

  it('is served without any upstream', async () => {
    await using folder = await temporaryFolder();
    const item = imagesOf('offline');
    {
      await using upstream = await startDockerRegistry();
      await pushImage({ url: upstream.url, repository }, 'v1', item);
      await fillByRegistry(folder.path, upstream, item);
    }
    const files = await filesUnder(folder.path);
    await using cistern = await startCistern({ root: folder.path });
    await expectServed(cistern, 'v1', item);
    expect(await filesUnder(folder.path)).toEqual(files);
  });
});

describe.skipIf(lacks('docker-registry'))("Cistern's volume, given back to registry:2", () => {
  it('is served by it: no blob is fetched again, and nothing that an old schedule names is deleted', async () => {
    await using folder = await temporaryFolder();
    await using copy = await temporaryFolder();
    await using upstream = await startDockerRegistry();
    const [old, added] = [imagesOf('old'), imagesOf('added')];
    await pushImage({ url: upstream.url, repository }, 'v1', old);
    await pushImage({ url: upstream.url, repository }, 'v2', added);
    const proxy = { remoteurl: upstream.url };
    await fillByRegistry(folder.path, upstream, old);
    await expire(folder.path);
    await cp(folder.path, copy.path, { recursive: true });
    {
      await using cistern = await startCistern({ root: folder.path, config: { proxy } });
      await expectServed(cistern, 'v2', added);
      await untilIdle(cistern);
      await cistern.stop();
    }
    const [before, { blobs }] = [await fetches(upstream), await soundStore(folder.path)];

    // What would have happened: registry deletes by that schedule as soon as it starts.
    {
      await using registry = await startDockerRegistry({ root: copy.path, deletes: true, proxy });
      const [layer] = old.images[0]?.layers ?? [];
      const hex = layer?.digest.slice('sha256:'.length) ?? '';
      const data = join(copy.path, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
      await until(
        () =>
          stat(data).then(
            () => false,
            () => true,
          ),
        patience(),
      );
      await registry.stop();
    }

    await using registry = await startDockerRegistry({ root: folder.path, deletes: true, proxy });
    await expectServed(registry, 'v1', old);
    await expectServed(registry, 'v2', added);
    expect((await fetches(upstream)).blobs).toBe(before.blobs);
    await upstream.stop();
    await expectServed(registry, 'v1', old);
    await expectServed(registry, 'v2', added);
    expect((await soundStore(folder.path)).blobs.toSorted()).toEqual(blobs.toSorted());
  });

  it('holds what its catalog and its garbage collector understand, with several upstreams too', async () => {
    await using folder = await temporaryFolder();
    await using upstream = await startDockerRegistry();
    const item = imagesOf('several');
    await pushImage({ url: upstream.url, repository }, 'v1', item);
    const withPort = 'registry.example:5000';
    const trees = ['', 'ghcr.io/', `${withPort}/`];
    {
      await using cistern = await startCistern({
        root: folder.path,
        config: {
          proxy: {
            remoteurl: upstream.url,
            upstreams: [
              { host: 'ghcr.io', url: upstream.url },
              { host: withPort, url: upstream.url },
            ],
          },
        },
      });
      await expectServed(cistern, 'v1', item);
      await expectServed(cistern, 'v1', item, `ghcr.io/${repository}`);
      await expectServed(cistern, 'v1', item, repository, `?ns=${withPort}`);
      await untilIdle(cistern);
      await cistern.stop();
    }
    const before = await soundStore(folder.path);
    const repositories = trees.map((tree) => `${tree.replace(':', '__')}${repository}`).toSorted();

    const report = await collectGarbage(folder.path, ['--dry-run']);
    expect(report.split('\n')).toEqual(expect.arrayContaining(repositories));
    expect(report).toContain('0 blobs and 0 manifests eligible for deletion');
    await collectGarbage(folder.path);
    expect(await soundStore(folder.path)).toEqual(before);

    await using registry = await startDockerRegistry({ root: folder.path });
    const catalog = (await (await fetch(`${registry.url}/v2/_catalog`)).json()) as unknown;
    expect(catalog).toEqual({ repositories });
    for (const name of repositories) await expectServed(registry, 'v1', item, name);
  });
});
