import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importRedis } from '../parts/base-images.js';
import { lacks } from '../parts/debian.js';
import { busyboxImage, randomLayer } from '../parts/image.js';
import { until } from '../parts/process.js';
import {
  composeFolder,
  downloaded,
  type Machine,
  onThisMachine,
  pullAnew,
  startMachine,
  untilKept,
  untilUp,
} from './machine.js';
import { patience } from '../parts/patience.js';

const local = 'http://localhost:5000';
const imageFor = (seed: string) => busyboxImage({ layers: [randomLayer(200_000, seed)] });
const alpine = imageFor('alpine');
const alpineHere = 'localhost:5000/alpine:latest';
const redisImage = 'redis:7-alpine';
const guideCommand =
  'redis-server --maxmemory 256mb --maxmemory-policy allkeys-lru --appendonly no --save "" --tcp-keepalive 300';
/** The guide's registry takes pushes; a mirror has an upstream instead. */
const mirrors = { REGISTRY_PROXY_REMOTEURL: 'https://registry-1.docker.io' };

describe.skipIf(
  lacks('dockerd', 'docker-compose', 'docker-registry', 'redis-server', 'busybox', 'openssl', 'curl', 'root'),
)('the guide to a Redis cache', () => {
  const cleanup = new AsyncDisposableStack();
  let machine: Machine;
  let project: string;

  beforeAll(async () => {
    machine = cleanup.use(await startMachine({ mirror: 'http://mirror-host:5000' }));
    await importRedis(machine.dockerd, redisImage);
    await machine.startRegistry('registry-1.docker.io', {
      'library/alpine:latest': alpine,
      'library/debian:latest': imageFor('debian'),
      'library/ubuntu:latest': imageFor('ubuntu'),
    });
    project = await start();
    await machine.type(`docker pull ${alpineHere}`);
    await untilKept(machine, 'guide_registry_1', alpine);
  });
  afterAll(() => cleanup.disposeAsync());

  /** The guide's set-up as it stands, or with changes of it. */
  async function start(changes: Changes = {}): Promise<string> {
    const here = onThisMachine(machine);
    const environment = { ...here.environment, ...mirrors, ...changes.environment };
    const folder = await composeFolder(
      machine,
      'redis-cache.yml',
      { '.env': 'COMPOSE_PROJECT_NAME=guide\n' },
      { registry: { ...here, environment }, redis: redisWith(guideCommand), ...changes.services },
    );
    await machine.type('docker-compose up -d -t 1', folder);
    await untilUp(machine, local);
    return folder;
  }

  const redis = (command: string, service = 'redis') =>
    machine.type(`docker-compose exec -T ${service} redis-cli ${command}`, project);

  it('what is pulled twice comes from the mirror', async () => {
    expect(await pullAnew(machine, alpineHere)).toEqual(downloaded);
  });

  it('a push is refused', async () => {
    const { code, stderr } = await machine.shell(`docker push ${alpineHere}`);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/unsupported/i) as string });
  });

  it('Redis holds descriptors, within its memory', async () => {
    const keys = (await redis('--scan')).split('\n');
    const descriptors = keys.filter((key) =>
      /^cistern:\{[^}]+\}:descriptor:library\/alpine@sha256:/.test(key),
    );
    expect(descriptors.length).toBeGreaterThanOrEqual(2 + alpine.layers.length);
    expect(Number(await redis('DBSIZE'))).toBeGreaterThanOrEqual(descriptors.length);
    expect(await redis('INFO memory')).toMatch(/maxmemory_policy:allkeys-lru/);
    const stats = await redis('INFO stats | grep keyspace');
    expect(stats).toMatch(/keyspace_hits:\d+\s+keyspace_misses:\d+/);
  });

  it('the container reaches it, and the log has no complaint of it', async () => {
    const look = "docker-compose exec -T registry sh -c 'nc -z redis 6379 && echo OK || echo FAIL'";
    expect(await machine.type(look, project)).toBe('OK');
    const log = await machine.type(
      'docker-compose logs --no-color registry | grep -i redis || true',
      project,
    );
    const complaints = log.split('\n').filter((line) => /"level":"(?:warning|error)"/.test(line));
    // The guide's configuration has a pool, of which registry:2 takes the size: see docs/configuration.md.
    expect(complaints.filter((line) => !line.includes('"key":"redis.pool"'))).toEqual([]);
  });

  /** A pull of something new, after which Redis knows it. */
  async function pullNew(name: string): Promise<void> {
    expect(await pullAnew(machine, `localhost:5000/${name}:latest`)).toEqual(downloaded);
    await until(async () => (await redis('--scan')).includes(`:descriptor:library/${name}@`), patience());
  }

  it('flushing it does no harm', async () => {
    expect(await redis('FLUSHDB')).toBe('OK');
    expect(await pullAnew(machine, alpineHere)).toEqual(downloaded);
    await pullNew('debian');
  });

  it('a Redis that was away is used again', async () => {
    const told = (what: string) =>
      until(async () => {
        const line = 'docker-compose logs --no-color registry | grep -i redis || true';
        return (await machine.type(line, project)).includes(what);
      }, patience());
    await machine.type('docker-compose kill redis', project);
    await told('redis cannot be used, going on without it');
    expect(await pullAnew(machine, alpineHere)).toEqual(downloaded);
    await machine.type('docker-compose up -d', project);
    await told('redis is used again');
    await pullNew('ubuntu');
  });

  it('Redis may want a password', async () => {
    const command =
      'redis-server --requirepass your-redis-password --maxmemory 256mb --maxmemory-policy allkeys-lru';
    await start({
      environment: { REGISTRY_REDIS_PASSWORD: 'your-redis-password' },
      services: { redis: redisWith(command) },
    });
    expect(await pullAnew(machine, alpineHere)).toEqual(downloaded);
    expect(await redis('DBSIZE')).toMatch(/NOAUTH/);
    await until(
      async () => Number(await redis('-a your-redis-password --no-auth-warning DBSIZE')) > 0,
      patience(),
    );
  });

  it('Redis may be found by Sentinels', async () => {
    const names = ['sentinel1', 'sentinel2', 'sentinel3'];
    const settings = [
      'protected-mode no',
      'sentinel resolve-hostnames yes',
      'sentinel monitor mymaster redis 6379 2',
    ];
    const configured = `printf '%s\\n' ${settings.map((line) => `'${line}'`).join(' ')} > /tmp/sentinel.conf`;
    const sentinel = {
      image: redisImage,
      command: ['sh', '-c', `${configured} && exec redis-server /tmp/sentinel.conf --sentinel`],
      networks: ['registry-network'],
    };
    await start({
      environment: {
        REGISTRY_REDIS_SENTINEL_MASTERNAME: 'mymaster',
        REGISTRY_REDIS_SENTINEL_ADDRS: names.map((name) => `${name}:26379`).join(),
      },
      services: Object.fromEntries(names.map((name) => [name, sentinel])),
    });
    expect(await pullAnew(machine, alpineHere)).toEqual(downloaded);
    await until(async () => Number(await redis('DBSIZE')) > 0, patience());
    expect(await redis('CLIENT LIST | grep -c name=cistern-')).not.toBe('0');
  });
});

/**
 * Public images of Redis are built without protected mode; what stands in for them here is Debian's. Health is asked for
 * more often than in the guide, because everything waits for it.
 */
function redisWith(command: string): object {
  return { command: `${command} --protected-mode no`, healthcheck: { interval: '1s' } };
}

interface Changes {
  readonly environment?: Readonly<Record<string, string>>;
  readonly services?: Readonly<Record<string, object>>;
}
