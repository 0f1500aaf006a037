import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { type DockerRegistry, startDockerRegistry } from '../parts/docker-registry.js';
import {
  type Content,
  contentsOf,
  type Format,
  type Image,
  imageOf,
  type ImageIndex,
  indexOf,
  layerOf,
  linuxAmd64,
  randomLayer,
} from '../parts/image.js';
import { filesUnder, sha256, untilIdle } from '../parts/mirror.js';
import { pushImage } from '../parts/push.js';
import { skopeoCopy } from '../parts/skopeo.js';

function twoPlatforms(seed: string, format: Format): ImageIndex {
  const image = (architecture: string): Image =>
    imageOf({
      format,
      platform: { os: 'linux', architecture },
      layers: [
        layerOf({ 'etc/seed': seed }, format),
        randomLayer(400_000, `${seed} for ${architecture}`, format),
      ],
    });
  return indexOf([image('amd64'), image('arm64')], format);
}

/** What `dir:` holds of an image, or with `--all` of an index: file names and their sums. */
function filesOf(item: Image | ImageIndex): Record<string, string> {
  const { blobs, manifests } = contentsOf(item);
  const hex = ({ digest }: Content) => digest.slice('sha256:'.length);
  return Object.fromEntries([
    ['manifest.json', hex(item.manifest)],
    ...blobs.map((blob) => [hex(blob), hex(blob)]),
    ...manifests
      .filter((manifest) => manifest !== item.manifest)
      .map((manifest) => [`${hex(manifest)}.manifest.json`, hex(manifest)]),
  ]) as Record<string, string>;
}

async function copied(reference: string, args: readonly string[]): Promise<Record<string, string>> {
  const sums: Record<string, string> = {};
  const output = await skopeoCopy(reference, args, async ({ folder }) => {
    for (const file of await filesUnder(folder)) {
      if (file !== 'version') sums[file] = sha256(await readFile(join(folder, file)));
    }
  });
  expect(output).toMatchObject({ code: 0 });
  return sums;
}

const [hubIndex, ghcrIndex] = [twoPlatforms('hub', 'oci'), twoPlatforms('ghcr', 'docker')];
const single = imageOf({ layers: [randomLayer(300_000, 'single', 'docker')], format: 'docker' });

function platformOf({ images }: ImageIndex, architecture: string): Image {
  const image = images.find(({ platform }) => platform.architecture === architecture);
  if (image === undefined) throw new Error(`no image for ${architecture}`);
  return image;
}

interface Case {
  readonly title: string;
  readonly reference: string;
  readonly args?: readonly string[];
  readonly holds: Image | ImageIndex;
}

const cases: readonly Case[] = [
  { title: 'a single image by tag', reference: 'team/single:v1', holds: single },
  {
    title: 'a single image by digest',
    reference: `team/single@${single.manifest.digest}`,
    holds: single,
  },
  { title: 'a name of Docker Hub without a namespace', reference: 'docker.io/alone:v1', holds: single },
  {
    title: 'one platform of an index, by tag',
    reference: 'team/app:v1',
    args: [`--override-arch=${linuxAmd64.architecture}`],
    holds: platformOf(hubIndex, 'amd64'),
  },
  {
    title: 'another platform of an index, by its digest',
    reference: `team/app@${hubIndex.manifest.digest}`,
    args: ['--override-arch=arm64'],
    holds: platformOf(hubIndex, 'arm64'),
  },
  { title: 'a whole index by tag', reference: 'team/app:v1', args: ['--all'], holds: hubIndex },
  {
    title: 'a whole index by digest',
    reference: `team/app@${hubIndex.manifest.digest}`,
    args: ['--all'],
    holds: hubIndex,
  },
  {
    title: "a whole index below another upstream's name, by tag",
    reference: 'ghcr.io/team/app:v1',
    args: ['--all'],
    holds: ghcrIndex,
  },
  {
    title: "one platform below another upstream's name, by digest",
    reference: `ghcr.io/team/app@${ghcrIndex.manifest.digest}`,
    args: ['--override-arch=arm64'],
    holds: platformOf(ghcrIndex, 'arm64'),
  },
];

describe.skipIf(lacks('docker-registry', 'skopeo'))('skopeo copies through the mirror', () => {
  let hub: DockerRegistry;
  let ghcr: DockerRegistry;
  let cistern: Cistern;
  beforeAll(async () => {
    hub = await startDockerRegistry();
    ghcr = await startDockerRegistry();
    await pushImage({ url: hub.url, repository: 'team/app' }, 'v1', hubIndex);
    await pushImage({ url: hub.url, repository: 'team/single' }, 'v1', single);
    await pushImage({ url: hub.url, repository: 'library/alone' }, 'v1', single);
    await pushImage({ url: ghcr.url, repository: 'team/app' }, 'v1', ghcrIndex);
    cistern = await startCistern({
      config: {
        proxy: { remoteurl: hub.url, freshness: '1ms', upstreams: [{ host: 'ghcr.io', url: ghcr.url }] },
      },
    });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await hub[Symbol.asyncDispose]();
    await ghcr[Symbol.asyncDispose]();
  });

  describe('from the upstreams', () => {
    it.each(cases)('$title', async ({ reference, args = [], holds }) => {
      expect(await copied(`${cistern.host}/${reference}`, args)).toEqual(filesOf(holds));
    });
  });

  describe('with every upstream stopped', () => {
    beforeAll(async () => {
      await untilIdle(cistern);
      await hub.stop();
      await ghcr.stop();
    });

    it.each(cases)('$title', async ({ reference, args = [], holds }) => {
      expect(await copied(`${cistern.host}/${reference}`, args)).toEqual(filesOf(holds));
    });

    it('fails for what was never asked for', async () => {
      const output = await skopeoCopy(`${cistern.host}/team/never:v1`);
      expect(output).toMatchObject({ code: 1, stderr: expect.stringContaining('503') as string });
    });
  });
});
