import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { type Containerd, startContainerd } from '../parts/containerd.js';
import { lacks } from '../parts/debian.js';
import { type DockerRegistry, startDockerRegistry } from '../parts/docker-registry.js';
import { busyboxImage, type ImageIndex, indexOf, randomLayer } from '../parts/image.js';
import { untilIdle } from '../parts/mirror.js';
import { pushImage } from '../parts/push.js';

const nobody = 'http://127.0.0.1:9';

// One name in every registry: only `ns` tells what is meant.
const repository = 'team/app';

describe.skipIf(lacks('docker-registry', 'busybox', 'containerd', 'root'))('containerd with a mirror', () => {
  const registries: Record<string, DockerRegistry> = {};
  const indexes: Record<string, ImageIndex> = {};
  let cistern: Cistern;
  let containerd: Containerd;

  beforeAll(async () => {
    for (const name of ['docker.io', 'ghcr.io', 'unknown.example']) {
      const registry = await startDockerRegistry();
      const image = busyboxImage({ layers: [randomLayer(500_000, name)] });
      const other = busyboxImage({ platform: { os: 'linux', architecture: 's390x' } });
      const index = indexOf([image, other]);
      await pushImage({ url: registry.url, repository }, 'v1', index);
      registries[name] = registry;
      indexes[name] = index;
    }
    cistern = await startCistern({
      config: {
        proxy: {
          remoteurl: registries['docker.io']?.url,
          freshness: '1ms',
          upstreams: [{ host: 'ghcr.io', url: registries['ghcr.io']?.url }],
        },
      },
    });
    const mirrors = [{ url: cistern.url }];
    containerd = await startContainerd({
      hosts: {
        'docker.io': { server: nobody, mirrors },
        'ghcr.io': { server: nobody, mirrors },
        'unknown.example': { server: registries['unknown.example']?.url ?? nobody, mirrors },
      },
    });
  });
  afterAll(async () => {
    await containerd[Symbol.asyncDispose]();
    await cistern[Symbol.asyncDispose]();
    for (const registry of Object.values(registries)) await registry[Symbol.asyncDispose]();
  });

  const stored = async () =>
    (await containerd.ctr(['content', 'ls', '-q'])).stdout.split('\n').filter((line) => line !== '');

  /** Pulls and forgets; the digests that arrived, of which containerd takes only what has them. */
  async function pulled(registry: string): Promise<string[]> {
    const reference = `${registry}/${repository}:v1`;
    expect(await stored()).toEqual([]);
    expect(await containerd.pull(reference)).toMatchObject({ code: 0 });
    const digests = await stored();
    expect(await containerd.remove(reference)).toMatchObject({ code: 0 });
    return digests.toSorted();
  }

  /** The index, and the image for this machine. */
  function digestsOf(registry: string): string[] {
    const index = indexes[registry];
    const [image] = index?.images ?? [];
    if (index === undefined || image === undefined) throw new Error(`nothing of ${registry}`);
    return [index.manifest, image.manifest, image.config, ...image.layers]
      .map(({ digest }) => digest)
      .toSorted();
  }

  it.each(['docker.io', 'ghcr.io'])('pulls what %s has, by its name alone', async (registry) => {
    expect(await pulled(registry)).toEqual(digestsOf(registry));
  });

  it('goes to the registry itself when the mirror does not know it', async () => {
    expect(await pulled('unknown.example')).toEqual(digestsOf('unknown.example'));
    const asked = cistern
      .logRecords()
      .filter((record) => String(record['http.request.uri']).endsWith('?ns=unknown.example'));
    expect(asked.length).toBeGreaterThan(0);
    expect(new Set(asked.map((record) => record['http.response.status']))).toEqual(new Set([404]));
  });

  describe('with every upstream stopped', () => {
    beforeAll(async () => {
      await untilIdle(cistern);
      for (const registry of Object.values(registries)) await registry.stop();
    });

    it.each(['docker.io', 'ghcr.io'])('pulls what %s had', async (registry) => {
      expect(await pulled(registry)).toEqual(digestsOf(registry));
    });
  });
});
