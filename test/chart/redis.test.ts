import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { startProcess, type RunningProcess } from '../parts/process.js';

const script = fileURLToPath(new URL('../../helm/cistern/files/redis.sh', import.meta.url));
const service = 'mirror-redis.mirrors.svc';
const password = 'only for this test';
/** With an /etc/hosts and a /run of its own. */
const asPod = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /run && exec sh "$2" "$3"';

interface Pod {
  start(address: string): Promise<void>;
  /** All at once, as when its node is lost. */
  lose(): Promise<void>;
  /** Of the container of Redis alone, killed and started anew; it keeps its /run, as the pod does. */
  restartRedis(): Promise<void>;
}

/** The pods of the StatefulSet, each with an address and a name; nothing is kept when one is lost. */
async function threePods() {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  const hosts = join(folder.path, 'hosts');
  const addresses = new Map<string, string>();
  const secret = join(folder.path, 'password');
  await writeFile(secret, password);
  let runs = 0;
  const pods = [0, 1, 2].map((index): Pod => {
    const name = `mirror-redis-${index}`;
    let containers: RunningProcess[] = [];
    let startRedis: () => Promise<RunningProcess>;
    const lose = async () => {
      for (const container of containers) container.kill('SIGKILL');
      await Promise.all(containers.map(({ exited }) => exited));
      containers = [];
    };
    onTestFinished(lose);
    return {
      lose,
      start: async (address) => {
        addresses.set(name, address);
        await writeFile(hosts, [...addresses].map(([known, at]) => `${at} ${known}.${service}\n`).join(''));
        const run = join(folder.path, `run-${runs++}`);
        await mkdir(join(run, 'redis'), { recursive: true });
        const env = {
          POD_NAME: name,
          POD_IP: address,
          STATEFULSET: 'mirror-redis',
          SERVICE: service,
          REPLICAS: '3',
          MASTER: 'mymaster',
          MAX_MEMORY: '16mb',
          PASSWORD_FILE: secret,
        };
        const startPart = (part: string) =>
          startProcess('/usr/bin/unshare', ['--mount', 'sh', '-c', asPod, hosts, run, script, part], { env });
        startRedis = () => startPart('redis');
        containers = [await startRedis(), await startPart('sentinel')];
      },
      restartRedis: async () => {
        const [killed, ...others] = containers;
        killed?.kill('SIGKILL');
        await killed?.exited;
        containers = [await startRedis(), ...others];
      },
    };
  });
  return pods;
}

function connect(address: string, port: number): Redis {
  const client = new Redis(port, address, { password, maxRetriesPerRequest: null });
  client.on('error', () => {}); // it is not there yet
  onTestFinished(() => client.disconnect());
  return client;
}

/** What a Sentinel says of the master: its name, and how many replicas and other Sentinels there are. */
async function viewOf(address: string) {
  const client = connect(address, 26_379);
  const flat = (await client
    .call('SENTINEL', 'MASTER', 'mymaster')
    .finally(() => client.disconnect())) as string[];
  const facts = new Map(
    flat.flatMap((key, index) => (index % 2 === 0 ? [[key, flat[index + 1]]] : [])) as [string, string][],
  );
  return {
    master: facts.get('ip')?.replace(`.${service}`, ''),
    replicas: Number(facts.get('num-slaves')),
    others: Number(facts.get('num-other-sentinels')),
    flags: facts.get('flags'),
  };
}

const soon = { interval: 200 };

describe.skipIf(lacks('redis-server', 'root'))("the chart's own Redis", () => {
  it('finds a new master when a pod is lost, and takes it back under its name; so after the loss of all', async () => {
    const [first, second, third] = await threePods();
    if (first === undefined || second === undefined || third === undefined)
      throw new Error('three were wanted');
    await Promise.all([first.start('127.71.0.1'), second.start('127.71.0.2'), third.start('127.71.0.3')]);
    const together = { replicas: 2, others: 2, flags: 'master' };
    for (const address of ['127.71.0.1', '127.71.0.2', '127.71.0.3'])
      await expect.poll(() => viewOf(address), soon).toEqual({ master: 'mirror-redis-0', ...together });

    await first.lose();
    await expect.poll(async () => (await viewOf('127.71.0.2')).master, soon).toMatch(/^mirror-redis-[12]$/);
    const { master } = await viewOf('127.71.0.2');
    await first.start('127.71.0.9');
    for (const address of ['127.71.0.2', '127.71.0.3', '127.71.0.9'])
      await expect.poll(() => viewOf(address), soon).toEqual({ master, ...together });

    const [leader, follower] = [
      connect(master === 'mirror-redis-1' ? '127.71.0.2' : '127.71.0.3', 6379),
      connect('127.71.0.9', 6379),
    ];
    await leader.set('key', 'value');
    await expect.poll(() => follower.get('key'), soon).toBe('value');
    expect(await leader.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'allkeys-lru']);

    await Promise.all([first, second, third].map((pod) => pod.lose()));
    await Promise.all([first.start('127.71.0.11'), second.start('127.71.0.12'), third.start('127.71.0.13')]);
    for (const address of ['127.71.0.11', '127.71.0.12', '127.71.0.13'])
      await expect.poll(() => viewOf(address), soon).toEqual({ master: 'mirror-redis-0', ...together });
  });

  it('loses nothing when the master is back before it was missed: another one with its content is master then', async () => {
    const pods = await threePods();
    const addresses = ['127.71.1.1', '127.71.1.2', '127.71.1.3'];
    await Promise.all(pods.map((pod, index) => pod.start(addresses[index] ?? '')));
    for (const address of addresses) {
      await expect
        .poll(() => viewOf(address), soon)
        .toEqual({ master: 'mirror-redis-0', replicas: 2, others: 2, flags: 'master' });
    }
    const clients = addresses.map((address) => connect(address, 6379));
    await clients[0]?.set('known', 'before');
    expect(await clients[0]?.wait(2, 10_000)).toBe(2);
    await pods[0]?.restartRedis();
    for (const address of addresses) {
      await expect.poll(async () => (await viewOf(address)).master, soon).toMatch(/^mirror-redis-[12]$/);
    }
    await expect.poll(async () => (await clients[0]?.role())?.[0], soon).toBe('slave');
    await expect
      .poll(() => Promise.all(clients.map((client) => client.get('known'))), soon)
      .toEqual(['before', 'before', 'before']);
  });
});
