import { chown, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importProgram, importRedis } from '../parts/base-images.js';
import { cisternImage, loadCisternImage } from '../parts/cistern-image.js';
import { lacks } from '../parts/debian.js';
import { startDockerRegistry } from '../parts/docker-registry.js';
import { type Dockerd, type DockerOptions, startDockerd } from '../parts/dockerd.js';
import { type TemporaryFolder, temporaryFolder } from '../parts/folder.js';
import { busyboxImage, randomLayer } from '../parts/image.js';
import { freePort } from '../parts/ports.js';
import { runProcess, until } from '../parts/process.js';
import { pushImage } from '../parts/push.js';
import { patience, patienceMs } from '../parts/patience.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const stack = join(checkout, 'stack.yml');
const network = 'traefik_public';
const tags = Array.from({ length: 12 }, (_, index) => `v${index}`);
const settling = { interval: 100 };

/** `docker stack config` came after Debian's client. */
const configClient = await clientWith(['docker', '/usr/local/bin/docker', '/usr/bin/docker']);

async function clientWith(clients: readonly string[]): Promise<string | undefined> {
  for (const client of clients) {
    const asked = await runProcess(client, ['stack', 'config', '--help']).catch(() => undefined);
    if (asked?.code === 0 && asked.stdout.includes('docker stack config')) return client;
  }
  return undefined;
}

describe.skipIf(configClient === undefined)('the files of the stack', () => {
  it.each([[], ['deploy/swarm/cephfs.yml'], ['deploy/swarm/s3.yml'], ['test/swarm/one-node.yml']])(
    'are taken without a warning: %s',
    async (...more) => {
      const files = [stack, ...more.map((name) => join(checkout, name))].flatMap((file) => ['-c', file]);
      const { code, stderr } = await runProcess(configClient ?? '', ['stack', 'config', ...files]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    },
  );
});

describe.skipIf(lacks('dockerd', 'docker-registry', 'redis-server', 'skopeo', 'busybox', 'root'))(
  'the stack on a Swarm of one node',
  () => {
    const cleanup = new AsyncDisposableStack();
    let dockerd: Dockerd;
    let folder: TemporaryFolder;

    const docker = async (args: readonly string[], options?: DockerOptions): Promise<string> => {
      const { code, stdout, stderr } = await dockerd.docker(args, options);
      expect({ args, code, stderr }).toMatchObject({ code: 0 });
      return stdout.trim();
    };
    const containersOf = async (service: string): Promise<string[]> => {
      const label = `label=com.docker.swarm.service.name=mirror_${service}`;
      return (await docker(['ps', '--quiet', '--filter', label])).split('\n').filter(Boolean);
    };
    const containerOf = async (service: string): Promise<string> => (await containersOf(service))[0] ?? '';
    const untilComplete = async (): Promise<void> => {
      const complete = until(async () => {
        const lines = await docker(['service', 'ls', '--format', '{{.Name}} {{.Replicas}}']);
        const counts = lines.split('\n').map((line) => /(\d+)\/(\d+)/.exec(line) ?? []);
        return counts.length === 6 && counts.every(([, running, wanted]) => running === wanted);
      }, patience());
      await complete.catch(async (cause: unknown) => {
        const format = '{{.Name}}: {{.CurrentState}} {{.Error}}';
        const tasks = await docker(['stack', 'ps', '--no-trunc', '--format', format, 'mirror']);
        throw new Error(`the stack is not complete\n${tasks}`, { cause });
      });
    };
    const redis = (container: string, port: number, ...command: string[]): Promise<string> => {
      const line = `REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli -p ${port} ${command.join(' ')}`;
      return docker(['exec', container, 'sh', '-c', line]);
    };
    /** What each Sentinel says: the master, how many replicas and other Sentinels there are, the master's state. */
    const wordsOfSentinels = async (): Promise<string[]> => {
      const words: string[] = [];
      for (const name of ['sentinel-1', 'sentinel-2', 'sentinel-3']) {
        const container = await containerOf(name);
        if (container === '') continue;
        const lines = (await redis(container, 26379, 'sentinel', 'master', 'mymaster')).split('\n');
        const fact = (key: string): string => lines[lines.indexOf(key) + 1] ?? '';
        words.push(['ip', 'num-slaves', 'num-other-sentinels', 'flags'].map((key) => fact(key)).join(' '));
      }
      return words;
    };
    /** By the word of all Sentinels, which know each other and the replica. */
    const agreedMaster = async (): Promise<string> => {
      let agreed: string | undefined;
      await expect
        .poll(async () => {
          const words = await wordsOfSentinels();
          agreed = words[0]?.split(' ')[0];
          return words;
        }, settling)
        .toSatisfy((words: string[]) => {
          return words.length === 3 && words.every((word) => word === `${agreed} 1 2 master`);
        });
      return agreed ?? '';
    };
    const untilRedisUsable = async (): Promise<void> => {
      for (const container of await containersOf('cistern')) {
        await until(async () => {
          const page = ['exec', container, 'wget', '-q', '-O', '-', 'http://127.0.0.1:5001/metrics'];
          const lines = (await docker(page))
            .split('\n')
            .filter((line) => line.startsWith('cistern_redis_usable{'));
          return lines.length > 0 && lines.every((line) => line.endsWith(' 1'));
        }, patience());
      }
    };

    beforeAll(async () => {
      folder = cleanup.use(await temporaryFolder());
      dockerd = cleanup.use(await startDockerd());
      await loadCisternImage(dockerd);
      await importRedis(dockerd, 'redis:7.2-bookworm');
      await importProgram(dockerd, 'upstream:test', 'docker-registry');
      await importProgram(dockerd, 'skopeo:test', 'skopeo');
      const listen = ['--advertise-addr', '127.0.0.1', '--listen-addr', `127.0.0.1:${await freePort()}`];
      // A port of its own: a vxlan that another Engine left in the kernel does not collide.
      await docker(['swarm', 'init', ...listen, '--data-path-port', `${await freePort()}`]);
      cleanup.defer(async () => void (await dockerd.docker(['swarm', 'leave', '--force'])));
      await docker(['network', 'create', '--driver', 'overlay', '--attachable', network]);
      await startUpstream();
      const secrets = { redis_password: 'only-for-tests', cluster_secret: 'also', upstreams: '{"auths":{}}' };
      for (const [name, text] of Object.entries(secrets)) {
        const file = join(folder.path, name);
        await writeFile(file, text);
        await docker(['secret', 'create', `mirror_${name}`, file]);
      }
      const data = join(folder.path, 'data');
      await mkdir(data);
      await chown(data, 1000, 1000);
      const files = [stack, join(checkout, 'test/swarm/one-node.yml')].flatMap((file) => ['-c', file]);
      await docker(['stack', 'deploy', '--resolve-image', 'never', ...files, 'mirror'], {
        env: { CISTERN_IMAGE: cisternImage, MIRROR_DATA: data },
      });
      await untilComplete();
    });
    afterAll(() => cleanup.disposeAsync());

    async function startUpstream(): Promise<void> {
      const root = join(folder.path, 'upstream');
      {
        await using registry = await startDockerRegistry({ root });
        for (const tag of tags) {
          const image = busyboxImage({ layers: [randomLayer(3_000_000, tag)] });
          await pushImage({ url: registry.url, repository: 'library/app' }, tag, image);
        }
      }
      const config = join(folder.path, 'upstream.yml');
      await writeFile(
        config,
        'version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\nhttp: {addr: ":5000"}\n',
      );
      const volumes = [`--volume=${root}:/data`, `--volume=${config}:/config.yml`];
      const place = [`--network=${network}`, '--network-alias=upstream'];
      await docker([
        'run',
        '-d',
        ...place,
        ...volumes,
        'upstream:test',
        'docker-registry',
        'serve',
        '/config.yml',
      ]);
    }

    it('comes up, and a client pulls through each replica', async () => {
      const replicas = await containersOf('cistern');
      expect(replicas).toHaveLength(3);
      expect(await agreedMaster()).toBe('redis-1');
      await untilRedisUsable();
      const address = `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`;
      for (const [index, replica] of replicas.entries()) {
        const host = await docker(['inspect', '--format', address, replica]);
        const source = `docker://${host}:5000/library/app:v${index}`;
        const copy = [
          'skopeo',
          '--insecure-policy',
          'copy',
          '--src-tls-verify=false',
          source,
          'dir:/tmp/image',
        ];
        await docker(['run', '--rm', `--network=${network}`, 'skopeo:test', ...copy]);
      }
    });

    it('loses no pull while it is updated, and while a replica, the Redis master and a Sentinel are killed', async () => {
      const script = `--volume=${join(checkout, 'test/swarm/pull.mjs')}:/pull.mjs:ro`;
      const load = [
        '-d',
        '--no-healthcheck',
        `--network=${network}`,
        '--entrypoint=node',
        script,
        cisternImage,
        '/pull.mjs',
      ];
      const puller = await docker(['run', ...load, 'mirror_cistern', 'library/app', ...tags]);
      const pulls = async (): Promise<Pull[]> =>
        (await docker(['logs', puller]))
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line) as Pull);
      const morePulls = async (count: number): Promise<void> => {
        const before = (await pulls()).length;
        await until(async () => (await pulls()).length >= before + count, patience());
      };
      await morePulls(20);
      await docker(['service', 'update', '--force', '--quiet', 'mirror_cistern'], {
        timeoutMs: patienceMs,
      });
      await untilComplete();
      await morePulls(20);
      expect((await pulls()).filter(({ lost }) => lost.length > 0)).toEqual([]); // an update breaks nothing at all
      for (const victim of ['cistern', 'redis-1', 'sentinel-1']) {
        const container = await containerOf(victim);
        await docker(['kill', container]);
        await until(async () => !(await containersOf(victim)).includes(container), patience());
        await morePulls(20);
        await untilComplete();
        expect(await agreedMaster()).toMatch(/^redis-[12]$/);
      }
      // Which of the two it is depends on who was quicker, the Sentinels or the container that came back.
      const master = await agreedMaster();
      const follower = master === 'redis-1' ? 'redis-2' : 'redis-1';
      await expect
        .poll(async () => redis(await containerOf(follower), 6379, 'role'), settling)
        .toMatch(new RegExp(`^slave\\n${master}\\n6379\\nconnected\\n`));
      await untilRedisUsable();
      await morePulls(20);
      expect((await pulls()).filter(({ failed }) => failed !== undefined)).toEqual([]);
    });
  },
);

/** A line of pull.mjs. */
interface Pull {
  readonly pulled?: string;
  readonly failed?: string;
  /** What had to be asked for again. */
  readonly lost: readonly string[];
}
