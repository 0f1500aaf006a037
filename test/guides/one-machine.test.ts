import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { importRedis } from '../parts/base-images.js';
import { cisternImage } from '../parts/cistern-image.js';
import { lacks } from '../parts/debian.js';
import { busyboxImage, randomLayer } from '../parts/image.js';
import {
  downloaded,
  type Machine,
  onThisMachine,
  pullAnew,
  startMachine,
  untilKept,
  untilUp,
} from './machine.js';

const file = fileURLToPath(new URL('../../deploy/compose.yml', import.meta.url));
const local = 'http://localhost:5000';
const container = 'mirror_cistern_1';
const alpine = busyboxImage({ layers: [randomLayer(200_000, 'one machine')] });

interface ComposeFile {
  readonly name: string;
  readonly services: {
    readonly cistern: { readonly image: string; readonly build: string };
    readonly redis: { readonly image: string; readonly command: string };
  };
}

describe.skipIf(
  lacks('dockerd', 'docker-compose', 'docker-registry', 'redis-server', 'busybox', 'openssl', 'curl', 'root'),
)('the compose file for one machine', () => {
  const cleanup = new AsyncDisposableStack();
  let machine: Machine;
  let project: string;

  beforeAll(async () => {
    const { name, services, ...rest } = parse(await readFile(file, 'utf8')) as ComposeFile;
    machine = cleanup.use(await startMachine({ mirror: local }));
    await importRedis(machine.dockerd, services.redis.image);
    await machine.startRegistry('registry-1.docker.io', { 'library/alpine:latest': alpine });
    project = join(machine.folder, name);
    await mkdir(project);
    // Debian's compose is older than `name`; the image is there already, and Redis is Debian's.
    const { build: _, ...cistern } = services.cistern;
    const redis = { ...services.redis, command: `${services.redis.command} --protected-mode no` };
    const adapted = { ...rest, services: { cistern: { ...cistern, image: cisternImage }, redis } };
    await writeFile(join(project, 'docker-compose.yml'), stringify(adapted));
    const { volumes, ...here } = onThisMachine(machine);
    const override = { services: { cistern: { ...here, volumes } } };
    await writeFile(join(project, 'docker-compose.override.yml'), stringify(override));
    await machine.type('docker-compose up -d', project);
    await untilUp(machine, local);
  });
  afterAll(() => cleanup.disposeAsync());

  it('pulls go through it, and Redis knows what is stored', async () => {
    expect(await pullAnew(machine, 'alpine:latest')).toEqual(downloaded);
    await untilKept(machine, container, alpine);
    expect(await machine.type(`docker exec ${container} cistern ls`)).toContain('alpine:latest');
    const keys = () => machine.type('docker-compose exec -T redis redis-cli --scan', project);
    await expect.poll(keys).toMatch(/descriptor:library\/alpine@sha256:/);
  });

  it('runs as nobody in particular, and nothing but its volume can be written', async () => {
    expect(await machine.type(`docker exec ${container} stat -c %u:%g /proc/1`)).toBe('1000:1000');
    const { code, stderr } = await machine.shell(`docker exec ${container} touch /etc/x`);
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('Read-only') as string,
    });
  });

  it('ends in order, and comes back with what it had', async () => {
    await machine.type('docker-compose restart', project);
    await untilUp(machine, local);
    expect(await machine.type(`docker logs ${container} 2>&1 | grep -c stopped`)).toBe('1');
    expect(await pullAnew(machine, 'alpine:latest')).toEqual(downloaded);
  });
});
