import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DockerApi } from '../../src/inuse/docker-api.js';
import { DockerImages } from '../../src/inuse/docker-images.js';
import { FakeDocker } from '../fakes/fake-docker.js';
import { runCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { startDockerd } from '../parts/dockerd.js';
import { temporaryFolder } from '../parts/folder.js';
import { busyboxImage, imageOf, randomLayer } from '../parts/image.js';
import { metric, soundStore, startMirror, untilIdle } from '../parts/mirror.js';

const digest = (hex: string): string => `sha256:${hex.repeat(64)}`;
const swarm = {
  LocalNodeState: 'active',
  ControlAvailable: true,
  Cluster: { ID: 'swarmid' },
};

describe('what Docker says that it runs', () => {
  let cleanup: AsyncDisposableStack;
  let docker: FakeDocker;
  let logged: { level: number; msg: string }[];

  beforeEach(async () => {
    cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    docker = cleanup.use(new FakeDocker(join(folder.path, 'docker.sock'), {}));
    await docker.up();
    logged = [];
  });
  afterEach(() => cleanup.disposeAsync());

  function images(): DockerImages {
    const write = (line: string): void => void logged.push(JSON.parse(line) as (typeof logged)[number]);
    return new DockerImages({
      api: new DockerApi(docker.socket),
      intervalMs: 20,
      imageHere: (text) => text,
      log: pino({}, { write }),
    });
  }

  /** What it tells first. */
  async function told(): Promise<string[]> {
    const source = images();
    const stop = new AbortController();
    let found: string[] = [];
    const id = await source.identify(stop.signal);
    if (id === undefined) throw new Error('nobody to ask');
    const seen = (all: ReadonlyMap<string, unknown>): void => {
      found = [...all.keys()];
      stop.abort();
    };
    await source.observe(id, { seen, heard: () => undefined }, stop.signal);
    return found;
  }

  it('are the images of services, and of tasks that still run an earlier one', async () => {
    docker.answers['/info'] = { ID: 'AB:CD', Swarm: swarm };
    const spec = (Image: string) => ({ ContainerSpec: { Image } });
    docker.answers['/services'] = [
      { Spec: { Name: 'web', TaskTemplate: spec(`web:2@${digest('2')}`) } },
      { Spec: { Name: 'plugin', TaskTemplate: { PluginSpec: {} } } },
    ];
    docker.answers['/tasks'] = [
      { Spec: spec(`web:1@${digest('1')}`) },
      { Spec: spec(`web:2@${digest('2')}`) },
    ];
    expect(await told()).toEqual([`web:2@${digest('2')}`, `web:1@${digest('1')}`]);
    expect(docker.requests.some((url) => /^\/tasks\?filters=.*desired-state.*running/.test(url))).toBe(true);
  });

  it('are those of its containers where it is in no Swarm, by name and by digest', async () => {
    docker.answers['/info'] = { ID: 'AB:CD', Swarm: { LocalNodeState: 'inactive' } };
    docker.answers['/containers/json'] = [
      { Image: 'web:1', ImageID: digest('a') },
      { Image: digest('b'), ImageID: digest('b') },
    ];
    docker.answers['/images/json'] = [
      { Id: digest('a'), RepoDigests: [`web@${digest('1')}`] },
      { Id: digest('b'), RepoDigests: null },
    ];
    expect(await told()).toEqual(['web:1', `web@${digest('1')}`, digest('b')]);
  });

  it('is the same for all managers of a Swarm, and nothing for its workers', async () => {
    const { signal } = new AbortController();
    docker.answers['/info'] = { ID: 'AB:CD', Swarm: swarm };
    expect(await images().identify(signal)).toBe('swarmid');
    docker.answers['/info'] = { ID: 'AB:CD', Swarm: { LocalNodeState: 'inactive' } };
    expect(await images().identify(signal)).toBe('AB-CD');
    docker.answers['/info'] = { ID: 'AB:CD', Swarm: { LocalNodeState: 'active', ControlAvailable: false } };
    const worker = images();
    expect(await worker.identify(signal)).toBeUndefined();
    expect(await worker.identify(signal)).toBeUndefined();
    expect(logged.filter(({ msg }) => msg.includes('worker'))).toHaveLength(1);
  });

  it('is left to others when nobody answers, or when it is a manager no more', async () => {
    docker.answers['/info'] = { ID: 'AB:CD', Swarm: swarm };
    docker.answers['/services'] = [];
    docker.answers['/tasks'] = [];
    const { signal } = new AbortController();
    const source = images();
    let heard = 0;
    const observer = {
      seen: () => undefined,
      heard: () => {
        heard += 1;
        docker.answers['/info'] = {
          ID: 'AB:CD',
          Swarm: { LocalNodeState: 'active', ControlAvailable: false },
        };
      },
    };
    await source.observe('swarmid', observer, signal);
    await docker.down();
    await source.observe('swarmid', observer, signal);
    expect(heard).toBe(1);
    expect(logged.filter(({ level }) => level === 40)).toHaveLength(1);
  });

  it('comes for the platforms of its nodes', async () => {
    docker.answers['/info'] = { ID: 'AB:CD', Swarm: swarm, OSType: 'linux', Architecture: 'x86_64' };
    const node = (Architecture: string) => ({ Description: { Platform: { OS: 'linux', Architecture } } });
    docker.answers['/nodes'] = [node('x86_64'), node('aarch64'), node('x86_64')];
    const { signal } = new AbortController();
    expect(await images().platforms(signal)).toEqual(['linux/amd64', 'linux/arm64']);
    docker.answers['/info'] = { ID: 'AB:CD', OSType: 'linux', Architecture: 'aarch64' };
    expect(await images().platforms(signal)).toEqual(['linux/arm64']);
  });
});

it('cistern gc names scheduler.inuse as the reason for no deletion, while the engine does not answer', async () => {
  await using folder = await temporaryFolder();
  const docker = { socket: join(folder.path, 'absent.sock') };
  await using mirror = await startMirror({
    config: { storage: { delete: { enabled: true } }, scheduler: { enabled: false, inuse: { docker } } },
  });
  const { stdout, stderr } = await runCistern(['gc', '--config', mirror.cistern.configFile]);
  expect(stdout + stderr).toContain('nothing is deleted');
  expect(stdout + stderr).toContain('scheduler.inuse');
  expect(stdout + stderr).not.toContain('Redis');
});

it('keeps gc from deleting while a record of what runs is damaged, and gc names the record', async () => {
  await using folder = await temporaryFolder();
  const docker = { socket: join(folder.path, 'absent.sock') };
  await using mirror = await startMirror({
    config: { storage: { delete: { enabled: true } }, scheduler: { enabled: false, inuse: { docker } } },
  });
  const records = join(mirror.cistern.root, 'cistern/inuse/docker');
  await mkdir(records, { recursive: true });
  await writeFile(join(records, 'engine'), 'seen now\n');
  const { stdout, stderr } = await runCistern(['gc', '--config', mirror.cistern.configFile]);
  expect(stdout + stderr).toContain('nothing is deleted');
  expect(stdout + stderr).toContain('inuse/docker/engine');
});

describe.skipIf(lacks('dockerd', 'busybox', 'root'))('a real engine', () => {
  it("keeps what a service wants from the mirror's eviction", async () => {
    await using dockerd = await startDockerd();
    expect(await dockerd.docker(['swarm', 'init', '--advertise-addr', '127.0.0.1'])).toMatchObject({
      code: 0,
    });
    await using mirror = await startMirror({
      proxy: { ttl: '4s' },
      config: {
        storage: { delete: { enabled: true } },
        scheduler: {
          grace: '1s',
          expire: { schedule: '1s' },
          inuse: { docker: { socket: dockerd.socket, interval: '1s' } },
        },
      },
    });
    const wanted = busyboxImage();
    mirror.upstream.addImage('team/wanted', 'v1', wanted);
    mirror.upstream.addImage('team/other', 'v1', imageOf({ layers: [randomLayer(1_000, 'other')] }));
    const service = ['service', 'create', '--detach', '--no-resolve-image', '--replicas', '0'];
    // Nothing has to run: what a service wants may run at any time.
    expect(await dockerd.docker([...service, `team/wanted@${wanted.manifest.digest}`])).toMatchObject({
      code: 0,
    });
    await expect.poll(() => metric(mirror.cistern, 'cistern_inuse_images')).toBe(1);
    for (const name of ['wanted', 'other']) {
      await (await fetch(mirror.url(`team/${name}/manifests/v1`))).arrayBuffer();
    }
    await untilIdle(mirror.cistern);
    const stored = async () => (await soundStore(mirror.cistern.root)).blobs;
    await expect.poll(stored, { interval: 200 }).toEqual([wanted.manifest.digest]);
  });
});
