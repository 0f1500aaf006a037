import { readdir } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { startContainerd } from './containerd.js';
import { lacks } from './debian.js';
import { startDockerRegistry } from './docker-registry.js';
import { startDockerd } from './dockerd.js';
import { busyboxImage } from './image.js';
import { pushImage } from './push.js';
import { skopeoCopy } from './skopeo.js';

async function registryWith(repository: string) {
  const registry = await startDockerRegistry();
  const image = busyboxImage({ command: ['/bin/echo', 'it runs'] });
  await pushImage({ url: registry.url, repository }, 'v1', image);
  return { registry, image };
}

describe.skipIf(lacks('docker-registry', 'busybox', 'skopeo'))('skopeo', () => {
  it('copies an image', async () => {
    const { registry, image } = await registryWith('team/app');
    await using _ = registry;
    const files: string[] = [];
    const output = await skopeoCopy(`${registry.host}/team/app:v1`, [], async ({ folder }) => {
      files.push(...(await readdir(folder)));
    });
    expect(output).toMatchObject({ code: 0 });
    expect(files).toContain(image.config.digest.slice('sha256:'.length));
    expect((await skopeoCopy(`${registry.host}/team/app:v2`)).code).toBe(1);
  });
});

describe.skipIf(lacks('docker-registry', 'busybox', 'containerd', 'root'))('containerd', () => {
  it('pulls through the mirror that it is given', async () => {
    const { registry } = await registryWith('library/app');
    await using _ = registry;
    await using containerd = await startContainerd({
      hosts: { 'docker.io': { server: 'http://127.0.0.1:9', mirrors: [{ url: registry.url }] } },
    });
    expect(await containerd.pull('docker.io/library/app:v1')).toMatchObject({ code: 0 });
    expect(await containerd.remove('docker.io/library/app:v1')).toMatchObject({ code: 0 });
    expect((await containerd.ctr(['content', 'ls', '-q'])).stdout).toBe('');
  });
});

describe.skipIf(lacks('docker-registry', 'busybox', 'dockerd', 'root'))('dockerd', () => {
  it('pulls through its mirror and runs what it pulled', async () => {
    const { registry } = await registryWith('library/app');
    await using _ = registry;
    await using dockerd = await startDockerd({ mirrors: [registry.url] });
    const output = await dockerd.docker(['run', '--rm', '--network=none', 'app:v1']);
    expect(output).toMatchObject({ code: 0, stdout: 'it runs\n' });
  });
});
