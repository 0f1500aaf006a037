import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { makeCertificate } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { busyboxImage, randomLayer } from '../parts/image.js';
import { freePort } from '../parts/ports.js';
import { until, untilLogged, untilReady } from '../parts/process.js';
import {
  downloaded,
  guideFile,
  type Machine,
  onThisMachine,
  type PublicRegistry,
  publishedConfig,
  pullAnew,
  startMachine,
  untilKept,
  untilUp,
} from './machine.js';
import { patience } from '../parts/patience.js';

const mirror = 'https://mirror.example.com';
const gitlab = busyboxImage({ layers: [randomLayer(300_000, 'gitlab')] });
const front = fileURLToPath(new URL('./https-front.ts', import.meta.url));

interface Stack {
  readonly services: { readonly 'registry-mirror': { readonly deploy: object; readonly volumes: string[] } };
}

describe.skipIf(lacks('dockerd', 'docker-registry', 'busybox', 'openssl', 'curl', 'root'))(
  "the Swarm recipe of the Geek's Cookbook",
  () => {
    const cleanup = new AsyncDisposableStack();
    let machine: Machine;
    let hub: PublicRegistry;
    let file: string;

    beforeAll(async () => {
      machine = cleanup.use(await startMachine({ mirror }));
      hub = await machine.startRegistry('registry-1.docker.io', { 'gitlab/gitlab-ce:latest': gitlab });
      const data = join(machine.folder, 'data/registry');
      await mkdir(join(data, 'registry-mirror-data'), { recursive: true });
      await writeFile(join(data, 'registry-mirror-config.yml'), await publishedConfig('swarm.yml'));
      file = join(machine.folder, 'registry.yml');
      await writeFile(file, await adapted(machine));
      // A data path of its own: a vxlan that another Engine left in the kernel does not collide.
      const ports = `--listen-addr 127.0.0.1:2377 --data-path-port ${await freePort()}`;
      await machine.type(`docker swarm init --advertise-addr 127.0.0.1 ${ports}`);
      await machine.type('docker network create --driver overlay traefik_public');
      await startFront();
    });
    afterAll(() => cleanup.disposeAsync());

    /** HTTPS for the mirror's name, as Traefik has it in front of the service. */
    async function startFront(): Promise<void> {
      const names = ['DNS:mirror.example.com'];
      const { certificate, key } = await makeCertificate(machine.folder, 'front', machine.authority, names);
      const running = await machine.start(process.execPath, [
        front,
        certificate,
        key,
        '443',
        '127.0.0.1',
        '5000',
      ]);
      await untilReady(running, 'HTTPS', (signal) => untilLogged(running, /listening/, signal));
    }

    const container = () => machine.type('docker ps --quiet --filter name=registry_registry-mirror');

    it('the stack starts; labels for another Traefik are the service’s and do nothing', async () => {
      await machine.type(`docker stack deploy registry -c ${file}`);
      await untilUp(machine, mirror);
      const inspect = "docker service inspect registry_registry-mirror --format '{{json .Spec.Labels}}'";
      expect(JSON.parse(await machine.type(inspect))).toMatchObject({ 'traefik.port': '5000' });
      const logs = await machine.type(`docker logs ${await container()} 2>&1`);
      expect(logs).toMatch(/\bservice=registry\b/);
      expect(logs).not.toMatch(/level=(?:warning|error)/);
    });

    it('nodes pull through its HTTPS name', async () => {
      expect(await machine.type('docker info')).toContain(`${mirror}/`);
      expect(await pullAnew(machine, 'gitlab/gitlab-ce')).toEqual(downloaded);
      expect(hub.log()).not.toMatch(/gitlab-ce\S* HTTP\/1\.1" .*"docker\//);
      await untilKept(machine, await container(), gitlab);
    });

    it('what was pulled is there when the container starts elsewhere, over the same storage', async () => {
      await hub.stop();
      const before = await container();
      await machine.type(`docker kill ${before}`);
      await until(async () => {
        const now = await container();
        return now !== '' && now !== before;
      }, patience());
      await untilUp(machine, mirror);
      expect(await pullAnew(machine, 'gitlab/gitlab-ce')).toEqual(downloaded);
    });
  },
);

/**
 * The recipe's file on a machine whose kernel has no IPVS, which Swarm's own load balancing needs: the port is published
 * by the task's host; folders stand elsewhere than in /var/data.
 */
async function adapted(machine: Machine): Promise<string> {
  const text = await guideFile('swarm-mirror.yml');
  const stack = parse(text.replaceAll('/var/data/', `${machine.folder}/data/`)) as Stack;
  const { 'registry-mirror': service } = stack.services;
  const { volumes, ...here } = onThisMachine(machine);
  return stringify({
    ...stack,
    version: '3.8',
    services: {
      'registry-mirror': {
        ...service,
        ...here,
        volumes: [...service.volumes, ...volumes],
        deploy: { ...service.deploy, endpoint_mode: 'dnsrr' },
        ports: [{ target: 5000, published: 5000, mode: 'host' }],
      },
    },
  });
}
