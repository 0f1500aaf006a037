import { describe, expect, it } from 'vitest';
import { digestOf } from '../../src/oci/digest.js';
import { lacks } from './debian.js';
import { startDockerRegistry } from './docker-registry.js';
import { imageOf, indexOf, layerOf, randomLayer } from './image.js';
import { pushImage } from './push.js';

describe.skipIf(lacks('docker-registry'))('a real registry', () => {
  it('takes an index of images and gives back the same bytes', async () => {
    await using registry = await startDockerRegistry();
    const layers = [layerOf({ 'etc/motd': 'hello\n' }), randomLayer(300_000, 'a')];
    const index = indexOf([
      imageOf({ layers }),
      imageOf({ layers, platform: { os: 'linux', architecture: 'arm64' } }),
    ]);
    await pushImage({ url: registry.url, repository: 'team/app' }, 'v1', index);
    const manifest = await fetch(`${registry.url}/v2/team/app/manifests/v1`, {
      headers: { accept: index.manifest.mediaType },
    });
    expect(manifest.headers.get('docker-content-digest')).toBe(index.manifest.digest);
    const blob = await fetch(`${registry.url}/v2/team/app/blobs/${layers[1]?.digest}`);
    expect(digestOf(new Uint8Array(await blob.arrayBuffer()))).toBe(layers[1]?.digest);
    await registry.stop();
    expect(registry.accessLog()).toContainEqual(
      expect.objectContaining({ method: 'GET', path: '/v2/team/app/manifests/v1', status: 200 }),
    );
  });

  it('asks for a password where it has users', async () => {
    await using registry = await startDockerRegistry({ htpasswd: { alice: 'secret' } });
    const authorization = `Basic ${Buffer.from('alice:secret').toString('base64')}`;
    const image = imageOf({ layers: [layerOf({ a: 'b' })], format: 'docker' });
    await pushImage({ url: registry.url, repository: 'app', authorization }, 'v1', image);
    const anonymous = await fetch(`${registry.url}/v2/app/manifests/v1`);
    expect(anonymous.status).toBe(401);
  });

  it('caches another registry as a proxy', async () => {
    await using upstream = await startDockerRegistry();
    const image = imageOf({ layers: [randomLayer(10_000, 'p')] });
    await pushImage({ url: upstream.url, repository: 'app' }, 'v1', image);
    await using proxy = await startDockerRegistry({ proxy: { remoteurl: upstream.url } });
    const answer = await fetch(`${proxy.url}/v2/app/blobs/${image.layers[0]?.digest}`);
    expect(digestOf(new Uint8Array(await answer.arrayBuffer()))).toBe(image.layers[0]?.digest);
  });

  it('fails its start with what it said', async () => {
    await using first = await startDockerRegistry();
    const port = Number(new URL(first.url).port);
    await expect(startDockerRegistry({ port })).rejects.toThrow('address already in use');
  });
});
