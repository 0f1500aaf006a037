import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { commandOf, lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { startContainerd } from '../parts/containerd.js';
import { filesUnder } from '../parts/mirror.js';
import { unmountBelow } from '../parts/mounts.js';
import { type Output, runProcess, startProcess, until, untilReady } from '../parts/process.js';
import {
  registries,
  type Registry,
  repository,
  startSecureMirror,
  testNode,
  type SecureMirror,
} from './node.js';

/**
 * Machines as `configure-node` leaves them, with nothing else said to the clients. No registry can
 * be reached by its own name, so what arrives came through the mirror.
 */
describe.skipIf(lacks('openssl', 'root'))('clients of a machine that configure-node was run on', () => {
  let mirror: SecureMirror;
  beforeAll(async () => {
    mirror = await startSecureMirror();
    vi.stubEnv('HTTPS_PROXY', 'http://127.0.0.1:9');
    vi.stubEnv('HTTP_PROXY', 'http://127.0.0.1:9');
    vi.stubEnv('NO_PROXY', '127.0.0.1');
  });
  afterAll(async () => {
    vi.unstubAllEnvs();
    await mirror[Symbol.asyncDispose]();
  });

  const configured = async (runtime: string, node: Awaited<ReturnType<typeof testNode>>): Promise<void> => {
    const args = ['--mirror', mirror.cistern.url, '--ca', mirror.ca, '--runtime', runtime];
    expect(await node.configure(...args)).toMatchObject({ code: 0 });
  };

  it.skipIf(lacks('containerd')).each(registries)('containerd pulls from %s', async (registry) => {
    await using node = await testNode();
    await configured('containerd', node);
    await using containerd = await startContainerd();
    const hosts = join(node.root, 'etc/containerd/certs.d');
    const reference = `${registry}/${repository}:v1`;
    // Fetches alone: what is there of the image can be unpacked by no runtime.
    const output = await containerd.ctr(['content', 'fetch', '--hosts-dir', hosts, reference]);
    expect(output).toMatchObject({ code: 0 });
    const stored = (await containerd.ctr(['content', 'ls', '-q'])).stdout
      .split('\n')
      .filter((line) => line !== '');
    expect(stored.toSorted()).toEqual(digestsOf(registry));
  });

  it.skipIf(lacks('skopeo')).each(registries)("podman's library pulls from %s", async (registry) => {
    await using node = await testNode();
    await node.write('etc/containers/policy.json', '{"default": [{"type": "insecureAcceptAnything"}]}');
    await configured('podman', node);
    await using folder = await temporaryFolder();
    const target = join(folder.path, 'image');
    const [command, args] = node.asSeenBy(commandOf('skopeo'), [
      'copy',
      `docker://${registry}/${repository}:v1`,
      `dir:${target}`,
    ]);
    const env = {
      HOME: folder.path,
      XDG_RUNTIME_DIR: folder.path,
      CONTAINERS_REGISTRIES_CONF: undefined,
    };
    expect(await runProcess(command, args, { env })).toMatchObject({ code: 0 });
    const files = (await filesUnder(target)).filter((file) => file !== 'version' && file !== 'manifest.json');
    const { config, layers } = mirror.images[registry];
    const hexes = [config, ...layers].map(({ digest }) => digest.slice('sha256:'.length));
    expect(files.toSorted()).toEqual(hexes.toSorted());
  });

  it.skipIf(lacks('dockerd'))(
    'dockerd pulls from Docker Hub, and others by the name of the mirror',
    async () => {
      await using node = await testNode();
      await using folder = await temporaryFolder();
      const socket = `unix://${join(folder.path, 'docker.sock')}`;
      // What somebody has written for this machine stays in force.
      const byHand = {
        hosts: [socket],
        'data-root': join(folder.path, 'data'),
        'exec-root': join(folder.path, 'exec'),
        pidfile: join(folder.path, 'dockerd.pid'),
        bridge: 'none',
        iptables: false,
        ip6tables: false,
        'storage-driver': 'vfs',
        labels: ['by=hand'],
      };
      const text = JSON.stringify(byHand, undefined, 4);
      await node.write('etc/docker/daemon.json', text);
      await configured('docker', node);
      await using cleanup = new AsyncDisposableStack();
      cleanup.defer(() => unmountBelow(folder.path));
      const [command, args] = node.asSeenBy(commandOf('dockerd'), []);
      const running = cleanup.use(await startProcess(command, args));
      const docker = (...rest: string[]): Promise<Output> =>
        runProcess('/usr/bin/docker', rest, {
          env: { DOCKER_HOST: socket, DOCKER_CONFIG: folder.path, DOCKER_CONTEXT: undefined },
        });
      await untilReady(running, 'dockerd', (signal) =>
        until(async () => (await docker('version')).code === 0, signal),
      );
      const info = await docker('info', '--format', '{{json .RegistryConfig.Mirrors}} {{json .Labels}}');
      expect(info.stdout.trim()).toBe(`["${mirror.cistern.url}/"] ["by=hand"]`);
      const pulled = async (reference: string, registry: Registry): Promise<void> => {
        expect(await docker('pull', '--quiet', reference)).toMatchObject({ code: 0 });
        const inspected = await docker('image', 'inspect', '--format', '{{.Id}}', reference);
        expect(inspected.stdout.trim()).toBe(mirror.images[registry].config.digest);
      };
      await pulled('app:v1', 'docker.io');
      await pulled(`${mirror.cistern.host}/ghcr.io/${repository}:v1`, 'ghcr.io');
      await pulled(`${mirror.cistern.host}/quay.io/${repository}:v1`, 'quay.io');
      await running.stop();

      expect(await node.configure('--undo')).toMatchObject({ code: 0 });
      expect(await readFile(join(node.root, 'etc/docker/daemon.json'), 'utf8')).toBe(text);
    },
  );

  function digestsOf(registry: Registry): string[] {
    const { manifest, config, layers } = mirror.images[registry];
    return [manifest, config, ...layers].map(({ digest }) => digest).toSorted();
  }
});
