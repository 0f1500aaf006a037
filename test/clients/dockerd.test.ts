import { describe, expect, it } from 'vitest';
import { startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { startDockerRegistry } from '../parts/docker-registry.js';
import { startDockerd } from '../parts/dockerd.js';
import { busyboxImage, type Format, indexOf, linuxAmd64, randomLayer } from '../parts/image.js';
import { sha256, untilIdle } from '../parts/mirror.js';
import { pushImage } from '../parts/push.js';
import { randomBytes } from '../parts/random-bytes.js';

const size = 3_000_000;

/** An image whose command says the sum of the file that its second layer brought. */
function summing(seed: string, format: Format, architecture = linuxAmd64.architecture) {
  return busyboxImage({
    format,
    platform: { os: 'linux', architecture },
    layers: [randomLayer(size, seed, format)],
    command: ['/bin/sha256sum', `/random-${seed}`],
  });
}

describe.skipIf(lacks('docker-registry', 'busybox', 'dockerd', 'root'))('dockerd with a mirror', () => {
  it.each<[string, Format]>([
    ['indexed', 'oci'],
    ['listed', 'docker'],
  ])('pulls and runs an image that is %s, with and without the upstream', async (seed, format) => {
    await using upstream = await startDockerRegistry();
    const image = summing(seed, format);
    const index = indexOf([image, summing(`other-${seed}`, format, 's390x')], format);
    await pushImage({ url: upstream.url, repository: 'library/app' }, 'v1', index);
    await using cistern = await startCistern({
      config: { proxy: { remoteurl: upstream.url, freshness: '1ms' } },
    });
    await using dockerd = await startDockerd({ mirrors: [cistern.url] });
    const byDigest = `app@${index.manifest.digest}`;
    const pullAndRun = async (reference: string): Promise<void> => {
      expect(await dockerd.docker(['image', 'ls', '--quiet'])).toMatchObject({ code: 0, stdout: '' });
      expect(await dockerd.docker(['pull', '--quiet', reference])).toMatchObject({ code: 0 });
      const inspected = await dockerd.docker(['image', 'inspect', reference]);
      expect(JSON.parse(inspected.stdout)).toMatchObject([
        {
          Id: image.config.digest,
          RepoDigests: [byDigest],
          RootFS: { Layers: image.layers.map(({ diffId }) => diffId) },
        },
      ]);
      const ran = await dockerd.docker(['run', '--rm', '--network=none', reference]);
      expect(ran).toMatchObject({ code: 0, stdout: `${sha256(randomBytes(size, seed))}  /random-${seed}\n` });
      expect(await dockerd.docker(['image', 'rm', image.config.digest])).toMatchObject({ code: 0 });
    };
    await pullAndRun('app:v1');
    await untilIdle(cistern);
    await upstream.stop();
    await pullAndRun('app:v1');
    await pullAndRun(byDigest);
  });
});
