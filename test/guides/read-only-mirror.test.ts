import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { makeCertificate } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { busyboxImage, imageOf, randomLayer } from '../parts/image.js';
import {
  composeFolder,
  downloaded,
  type Machine,
  type PublicRegistry,
  publishedConfig,
  pullAnew,
  startMachine,
  untilKept,
  untilUp,
} from './machine.js';

const imageFor = (seed: string) =>
  busyboxImage({ layers: [randomLayer(200_000, seed)], command: ['/bin/echo', seed] });
const nginx = imageFor('nginx');
const httpd = imageFor('httpd');
/** What it has it shares with no other: what the Engine has it does not ask for. */
const alone = (seed: string) => imageOf({ layers: [randomLayer(200_000, seed)] });
const [tool, data] = [alone('tool'), alone('data')];
const local = 'http://localhost:5000';
const hubUrl = 'https://registry-1.docker.io';
/** `hub`: a name of one's own for a registry, as Harbor's projects are. */
const oneForAll = stringify({
  version: 0.1,
  storage: { filesystem: { rootdirectory: '/var/lib/registry' } },
  http: { addr: ':5000' },
  proxy: {
    remoteurl: hubUrl,
    upstreams: [
      { host: 'ghcr.io', url: 'https://ghcr.io' },
      { host: 'quay.io', url: 'https://quay.io' },
      { host: 'hub', url: hubUrl },
    ],
  },
});

describe.skipIf(lacks('dockerd', 'docker-compose', 'docker-registry', 'busybox', 'openssl', 'curl', 'root'))(
  'the guide to a read-only mirror',
  () => {
    const cleanup = new AsyncDisposableStack();
    let machine: Machine;
    let hub: PublicRegistry;
    let project: string;

    beforeAll(async () => {
      machine = cleanup.use(await startMachine({ mirror: 'http://mirror-host:5000' }));
      hub = await machine.startRegistry('registry-1.docker.io', {
        'library/nginx:alpine': nginx,
        'library/httpd:alpine': httpd,
        'acme/web:v1': alone('web'),
        'acme/old:v1': alone('old'),
      });
      project = await composeFolder(machine, 'read-only-mirror.yml', {
        'config.yml': await publishedConfig('full-mirror.yml'),
      });
    });
    afterAll(() => cleanup.disposeAsync());

    it('the mirror starts, and its catalog is empty', async () => {
      await machine.type('docker-compose up -d', project);
      await untilUp(machine, local);
      expect(await machine.type(`curl -s ${local}/v2/`)).toBe('{}');
      expect(JSON.parse(await machine.type(`curl -s ${local}/v2/_catalog`))).toEqual({ repositories: [] });
      expect(await machine.type("docker inspect registry-mirror --format '{{.State.Status}}'")).toBe(
        'running',
      );
      const log = await machine.type('docker-compose logs --no-color registry-mirror', project);
      expect(log).toMatch(/time="\S+" level=info msg=listening/);
    });

    it('clients use it, and what they pull is kept', async () => {
      expect(await machine.type('docker info | grep -A 5 "Registry Mirrors"')).toContain(
        'http://mirror-host:5000',
      );
      await machine.type('docker pull nginx:alpine');
      expect(await machine.type('docker run --rm --network none nginx:alpine')).toBe('nginx');
      expect(hub.log()).not.toContain('docker/20'); // the daemon itself has asked nobody else
      const catalog = await machine.type('curl -s http://mirror-host:5000/v2/_catalog');
      expect(JSON.parse(catalog)).toEqual({ repositories: ['library/nginx'] });
      const tags = await machine.type(`curl -s ${local}/v2/library/nginx/tags/list`);
      expect(JSON.parse(tags)).toEqual({ name: 'library/nginx', tags: ['alpine'] });
      await untilKept(machine, 'registry-mirror', nginx);
    });

    it('the cache can be measured and cleaned up', async () => {
      const size = 'docker exec registry-mirror du -sh /var/lib/registry';
      expect(await machine.type(size)).toMatch(/^\S+[KM]\t\/var\/lib\/registry$/);
      const collect = 'docker exec registry-mirror /bin/registry garbage-collect';
      await machine.type(`${collect} /etc/docker/registry/config.yml --delete-untagged`);
      expect(await machine.type(`${size} | awk '{print $1}'`)).toMatch(/^\S+[KM]$/);
      // What was used just now has a tag, so it stays.
      await untilKept(machine, 'registry-mirror', nginx);
    });

    it('a push is refused: 405, UNSUPPORTED', async () => {
      await machine.type(`docker tag nginx:alpine localhost:5000/library/nginx:pushed`);
      const { code, stderr } = await machine.shell('docker push localhost:5000/library/nginx:pushed');
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/unsupported/i) as string });
      const status = await machine.type(
        `curl -s -o answer -w '%{http_code}' -X POST ${local}/v2/library/nginx/blobs/uploads/; cat answer`,
      );
      expect(status).toMatch(/^405\{"errors":\[\{"code":"UNSUPPORTED"/);
    });

    it('metrics count hits, misses and what was stored', async () => {
      const config = parse(await publishedConfig('full-mirror.yml')) as { http: object };
      const debug = { addr: ':5001', prometheus: { enabled: true } };
      const measured = { ...config, http: { ...config.http, debug } };
      await writeFile(join(project, 'config.yml'), stringify(measured));
      // The guide forgets to publish the port.
      const override = parse(await machine.type('cat docker-compose.override.yml', project)) as {
        services: { 'registry-mirror': object };
      };
      Object.assign(override.services['registry-mirror'], { ports: ['5001:5001'] });
      await writeFile(join(project, 'docker-compose.override.yml'), stringify(override));
      await machine.type('docker-compose up -d --force-recreate -t 1', project);
      await untilUp(machine, local);
      await machine.type('docker rmi localhost:5000/library/nginx:pushed');
      for (const image of ['nginx:alpine', 'httpd:alpine']) await pullAnew(machine, image);
      await untilKept(machine, 'registry-mirror', httpd);
      const metrics = await machine.type('curl -s http://localhost:5001/metrics | grep ^registry_');
      const sum = (name: string): number =>
        [...metrics.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\d+)$`, 'gm'))].reduce(
          (total, [, value]) => total + Number(value),
          0,
        );
      expect(sum('registry_proxy_hits_total')).toBeGreaterThan(0);
      expect(sum('registry_proxy_misses_total')).toBeGreaterThan(0);
      // The first of its layers is nginx' too.
      expect(sum('registry_storage_blob_upload_bytes_total')).toBeGreaterThanOrEqual(200_000);
    });

    it('while Docker Hub is away, what is cached is pulled', async () => {
      await hub.stop();
      expect(await pullAnew(machine, 'nginx:alpine')).toEqual(downloaded);
      hub = await machine.startRegistry('registry-1.docker.io', {});
    });

    it('while the mirror is away, clients pull from Docker Hub', async () => {
      const look = `curl -f ${local}/v2/ || echo "Mirror is down"`;
      expect(await machine.type(look)).toBe('{}');
      await machine.type('docker-compose stop -t 1', project);
      expect(await machine.type(look)).toBe('Mirror is down');
      expect(await machine.type("docker inspect registry-mirror --format '{{.State.Status}}'")).toBe(
        'exited',
      );
      expect(await pullAnew(machine, 'httpd:alpine')).toEqual(downloaded);
      await expect.poll(() => hub.log()).toContain('docker/20');
      await machine.type('docker-compose down -v', project);
    });

    it('TLS is spoken', async () => {
      const folder = await composeFolder(machine, 'tls.yml', {
        'config-tls.yml': await publishedConfig('tls-mirror.yml'),
      });
      const certs = join(folder, 'certs');
      await machine.type(`mkdir ${certs}`);
      const made = await makeCertificate(machine.folder, 'mirror', machine.authority, ['DNS:mirror-host']);
      await machine.type(`cp ${made.certificate} mirror.crt && cp ${made.key} mirror.key`, certs);
      await machine.type('docker-compose up -d', folder);
      await untilUp(machine, 'https://mirror-host:5000');
      await machine.type('docker rmi httpd:alpine');
      expect(await pullAnew(machine, 'mirror-host:5000/library/httpd:alpine')).toEqual(downloaded);
      await machine.type('docker-compose down -v -t 0', folder);
    });

    it('several registries: a mirror for each as before, and one for all of them', async () => {
      const ghcr = await machine.startRegistry('ghcr.io', { 'acme/tool:v1': tool });
      await machine.startRegistry('quay.io', { 'acme/data:v1': data });
      const folder = await composeFolder(machine, 'three-mirrors.yml');
      await machine.type('docker-compose up -d', folder);
      await pullAll(['5000/acme/web:v1', '5001/acme/tool:v1', '5002/acme/data:v1']);
      await untilKept(machine, 'ghcr-mirror', tool);
      await machine.type('docker-compose down -t 0', folder);

      await writeFile(join(project, 'config.yml'), oneForAll);
      await machine.type('docker-compose up -d && docker-compose stop -t 0', project);
      await moveVolume('three-mirrors_ghcr_cache', 'read-only-mirror_mirror_data', 'ghcr.io');
      await ghcr.stop();
      await machine.type('docker-compose start', project);
      const names = ['acme/web', 'ghcr.io/acme/tool', 'hub/acme/old', 'quay.io/acme/data'];
      await pullAll(names.map((name) => `5000/${name}:v1`));
      const catalog = await machine.type(`curl -s ${local}/v2/_catalog`);
      expect(JSON.parse(catalog)).toEqual({ repositories: names });
    });

    /** As docs/migrating/registry-2.md has it. */
    async function moveVolume(from: string, to: string, host: string): Promise<void> {
      const mountpoint = "docker volume inspect --format '{{.Mountpoint}}'";
      const lines = [
        `cd $(${mountpoint} ${from})/docker/registry/v2`,
        `mirror=$(${mountpoint} ${to})`,
        'target=$mirror/docker/registry/v2',
        `mkdir -p $target/repositories/${host}`,
        `cp -a --no-clobber repositories/. $target/repositories/${host}/`,
        'cp -a --no-clobber blobs/. $target/blobs/',
        'chown -R --reference=$mirror $mirror/docker',
      ];
      await machine.type(`set -e\n${lines.join('\n')}`);
    }

    async function pullAll(images: readonly string[]): Promise<void> {
      for (const image of images) {
        const [port = ''] = image.split('/');
        await untilUp(machine, `http://localhost:${port}`);
        await machine.type(`docker pull localhost:${image} && docker rmi localhost:${image}`);
      }
    }
  },
);
