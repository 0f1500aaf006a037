import { chmod, mkdir, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCertificate } from '../parts/certificates.js';
import { loadCisternImage, cisternImage } from '../parts/cistern-image.js';
import { lacks } from '../parts/debian.js';
import { type DockerRegistry, startDockerRegistry } from '../parts/docker-registry.js';
import { type Dockerd, startDockerd } from '../parts/dockerd.js';
import { type TemporaryFolder, temporaryFolder } from '../parts/folder.js';
import { busyboxImage, contentsOf, type Image, randomLayer } from '../parts/image.js';
import { freePort } from '../parts/ports.js';
import { until } from '../parts/process.js';
import { pushImage } from '../parts/push.js';
import { patience } from '../parts/patience.js';

describe.skipIf(lacks('dockerd', 'docker-registry', 'busybox', 'openssl', 'root'))('the image', () => {
  const cleanup = new AsyncDisposableStack();
  let dockerd: Dockerd;
  let upstream: DockerRegistry;
  let folder: TemporaryFolder;
  let port: number;
  let image: Image;

  beforeAll(async () => {
    port = await freePort();
    dockerd = cleanup.use(await startDockerd({ mirrors: [`http://127.0.0.1:${port}`] }));
    upstream = cleanup.use(await startDockerRegistry());
    folder = cleanup.use(await temporaryFolder());
    image = busyboxImage({ layers: [randomLayer(300_000, 'image')], command: ['/bin/echo', 'pulled'] });
    await pushImage({ url: upstream.url, repository: 'library/app' }, 'v1', image);
    await loadCisternImage(dockerd);
  });
  afterAll(() => cleanup.disposeAsync());

  const docker = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await dockerd.docker(args);
    expect({ args, code, stderr }).toMatchObject({ code: 0 });
    return stdout.trim();
  };

  /** As `docker run` with these options, for its default command; its own addresses on loopback. */
  async function run(options: readonly string[], command: readonly string[] = []): Promise<Container> {
    const env = [
      `REGISTRY_HTTP_ADDR=127.0.0.1:${port}`,
      `REGISTRY_HTTP_DEBUG_ADDR=127.0.0.1:${await freePort()}`,
      'REGISTRY_HTTP_DRAINDELAY=0s',
      `REGISTRY_PROXY_REMOTEURL=${upstream.url}`,
    ].flatMap((value) => ['--env', value]);
    const running = ['-d', '--network=host', '--health-interval=1s'];
    const id = await docker('run', ...running, ...env, ...options, cisternImage, ...command);
    const container: Container = {
      exec: (...args) => docker('exec', id, ...args),
      log: async () => {
        const { stdout, stderr } = await dockerd.docker(['logs', id]);
        return stdout + stderr;
      },
      stop: async () => {
        await docker('stop', '--time', '20', id);
        return Number(await docker('inspect', '--format', '{{.State.ExitCode}}', id));
      },
      healthy: () =>
        until(
          async () => (await docker('inspect', '--format', '{{.State.Health.Status}}', id)) === 'healthy',
          patience(),
        ),
      user: async () => (await docker('exec', id, 'stat', '--format', '%u:%g', '/proc/1')).trim(),
      [Symbol.asyncDispose]: async () => void (await dockerd.docker(['rm', '--force', '--volumes', id])),
    };
    try {
      await until(async () => /\blistening\b/.test(await container.log()), patience());
    } catch (cause) {
      throw new Error(`it does not listen\n${await container.log()}`, { cause });
    }
    return container;
  }

  async function pull(): Promise<void> {
    await docker('pull', '--quiet', 'app:v1');
    expect(await docker('run', '--rm', '--network=none', 'app:v1')).toBe('pulled');
    await docker('image', 'rm', '--force', image.config.digest);
  }

  it('is small', async () => {
    const size = Number(await docker('image', 'inspect', '--format', '{{.Size}}', cisternImage));
    process.stdout.write(`\nthe image: ${(size / 1e6).toFixed(0)} MB\n`);
    expect(size).toBeLessThan(260e6);
  });

  it('runs as nobody in particular, with a root filesystem that cannot be written', async () => {
    const restricted = ['--read-only', '--tmpfs=/tmp', '--cap-drop=ALL', '--security-opt=no-new-privileges'];
    await using container = await run(['--user=1000:1000', ...restricted]);
    await pull();
    expect(await container.user()).toBe('1000:1000');
    await container.healthy();
    expect(await container.stop()).toBe(0);
  });

  it('leaves root for the owner of a new volume, and is as handy inside as the image before it', async () => {
    await using container = await run([]);
    await pull();
    expect(await container.user()).toBe('1000:1000');
    // What the guides for registry:2 have people type.
    expect(await container.exec('du', '-sh', '/var/lib/registry')).toMatch(/^\S+\t\/var\/lib\/registry$/);
    const { host } = new URL(upstream.url);
    const look = `nc -z ${host.replace(':', ' ')} && echo OK || echo FAIL`;
    expect(await container.exec('sh', '-c', look)).toBe('OK');
    expect(await container.exec('sh', '-c', 'nc -z 127.0.0.1 1 && echo OK || echo FAIL')).toBe('FAIL');
    await container.exec('wget', '--spider', '-q', `http://127.0.0.1:${port}/v2/`);
    const config = '/etc/docker/registry/config.yml';
    await container.exec('/bin/registry', 'garbage-collect', config, '--delete-untagged');
    expect(await container.exec('find', '/var/lib/registry', '!', '-user', '1000')).toBe('');
    expect(await container.stop()).toBe(0);
  });

  it('stays root over a volume that registry filled, uses what is in it, and gives it back as it was', async () => {
    const root = join(folder.path, 'registry');
    await mkdir(root);
    {
      await using registry = await startDockerRegistry({ root, proxy: { remoteurl: upstream.url } });
      const { blobs, manifests } = contentsOf(image);
      const paths = [...manifests.map(() => 'manifests/v1'), ...blobs.map(({ digest }) => `blobs/${digest}`)];
      for (const path of paths) {
        const response = await fetch(`${registry.url}/v2/library/app/${path}`, {
          headers: { accept: image.manifest.mediaType },
        });
        expect(response.status).toBe(200);
        await response.arrayBuffer();
      }
      await until(async () => (await stored(root)) >= blobs.length + manifests.length, patience());
    }
    const asked = upstream.accessLog().length;
    // As stack.yml has it, with MIRROR_USER=0:0.
    const spool = [
      '--volume=/var/lib/cistern/spool',
      '--env=REGISTRY_PROXY_SPOOL_DIRECTORY=/var/lib/cistern/spool',
    ];
    await using container = await run(['--cap-drop=ALL', ...spool, `--volume=${root}:/var/lib/registry`]);
    await pull();
    expect(await container.user()).toBe('0:0');
    expect(await container.log()).toContain('/var/lib/registry belongs to root');
    expect(await container.stop()).toBe(0);
    expect(
      upstream
        .accessLog()
        .slice(asked)
        .filter(({ method }) => method === 'GET'),
    ).toEqual([]);
    const owners = (await readdir(root, { recursive: true })).map((name) => stat(join(root, name)));
    expect(new Set((await Promise.all(owners)).map(({ uid }) => uid))).toEqual(new Set([0]));
  });

  it.each([
    ['', []],
    [', also where clients need certificates', ['REGISTRY_HTTP_TLS_CLIENTCAS=[/certs/mirror.cert]']],
  ])('stays root where only root can read the key, and is healthy over HTTPS%s', async (_, more) => {
    const certs = join(folder.path, `certs-${more.length}`);
    await mkdir(certs);
    const { key } = await makeCertificate(certs, 'mirror');
    await chmod(key, 0o600);
    const files = ['CERTIFICATE=/certs/mirror.cert', 'KEY=/certs/mirror.key'];
    const settings = [...files.map((file) => `REGISTRY_HTTP_TLS_${file}`), ...more];
    const env = settings.flatMap((setting) => ['--env', setting]);
    await using container = await run([`--volume=${certs}:/certs:ro`, ...env]);
    expect(await container.user()).toBe('0:0');
    expect(await container.log()).toMatch(
      /http\.tls\.key: \/certs\/mirror\.key, which this user may not read/,
    );
    await container.healthy();
  });

  it('takes a configuration by its path, and asks for its health where that says', async () => {
    const config = '/usr/local/lib/cistern/deploy/config/default.yml';
    await using named = await run(['--tmpfs=/data:mode=1777'], ['serve', config]);
    expect(await named.log()).toContain('default.yml');
    await named.healthy();
  });

  it('says that it is not healthy when nobody answers', async () => {
    const { code, stderr } = await dockerd.docker(
      ['run', '--rm', '--network=none', cisternImage].concat('healthcheck'),
    );
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('ECONNREFUSED') as string });
  });
});

interface Container extends AsyncDisposable {
  exec(...args: string[]): Promise<string>;
  log(): Promise<string>;
  /** Returns the exit code. */
  stop(): Promise<number>;
  healthy(): Promise<void>;
  /** Of process 1. */
  user(): Promise<string>;
}

async function stored(root: string): Promise<number> {
  const names = await readdir(join(root, 'docker/registry/v2/blobs'), { recursive: true });
  return names.filter((name) => name.endsWith('/data')).length;
}
