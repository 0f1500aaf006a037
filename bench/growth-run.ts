import { execFile } from 'node:child_process';
import { mkdtemp, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { formatDescriptor, formatTimed } from '../src/cluster/redis/descriptor-cache.js';
import { timed } from '../src/cluster/redis/tag-cache.js';
import { freePort } from '../test/parts/ports.js';
import { type RedisServer, startRedis } from '../test/parts/redis.js';
import { redisValuesOf } from '../test/parts/sealed.js';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { GrowthStore } from './growth-store.js';
import { growthTable, holds, type Line } from './growth-table.js';
import { describeMachine, machineText, measuredNow } from './machine.js';
import { processorTimeOf } from './process-time.js';
import { memoryOf } from './process-memory.js';
import { publish } from './publish.js';
import { type Asked, loadRequests } from './request-load.js';
import { type Server, startServer } from './server.js';

const mebibyte = 1024 * 1024;
const connections = 16;
const hotImages = 100;
/** Files and folders for each descriptor, hard links included. */
const inodesPerDescriptor = 2.7;
/** When all that memory keeps of descriptors, tags and manifests is there, in MiB. */
const cachesFull = 320;
/** It takes some three, where nothing else is done. */
const longestMs = 10 * 60_000;
const batch = 2_000;
const lifetimeSeconds = 24 * 60 * 60;

type Pipeline = ReturnType<ReturnType<RedisServer['client']>['pipeline']>;

interface Extent {
  readonly descriptors: readonly number[];
  /** After the first, which nothing is measured of. */
  readonly starts: number;
  readonly rounds: number;
  /** Of each kind in a round. */
  readonly requests: number;
  /** Of each kind before the first round, so that what memory can keep is there. */
  readonly warmUp: number;
}

const full: Extent = {
  descriptors: [1_000, 100_000, 1_000_000],
  starts: 3,
  rounds: 5,
  requests: 5_000,
  warmUp: 20_000,
};
const quick: Extent = { descriptors: [1_000, 20_000], starts: 1, rounds: 3, requests: 2_000, warmUp: 2_000 };

type Linked = ReturnType<GrowthStore['at']>;

/** How a request is chosen from the images of a store. */
interface Kind {
  readonly title: string;
  readonly hot: boolean;
  readonly asked: (linked: Linked) => Asked;
}

function tagOf({ repository, tag }: Linked): Asked {
  return { method: 'GET', path: `/v2/${repository}/manifests/${tag}` };
}

function blobOf({ repository }: Linked, digest: string | undefined): Asked {
  return { method: 'HEAD', path: `/v2/${repository}/blobs/${digest}` };
}

const requests: readonly Omit<Kind, 'hot'>[] = [
  {
    title: 'GET manifest by tag',
    asked: tagOf,
  },
  {
    title: 'GET manifest by digest',
    asked: ({ repository, image: { manifest } }) => ({
      method: 'GET',
      path: `/v2/${repository}/manifests/${manifest.digest}`,
    }),
  },
  {
    title: 'HEAD blob',
    asked: (linked) => {
      const { parts } = linked.image;
      return blobOf(linked, parts[Math.floor(Math.random() * parts.length)]?.digest);
    },
  },
];
const kinds: readonly Kind[] = [true, false].flatMap((hot) => requests.map((each) => ({ ...each, hot })));

/** All figures of one store. Seconds, bytes. */
class Measured {
  readonly answering: number[] = [];
  readonly ready: number[] = [];
  readonly startCpu: number[] = [];
  readonly idle: number[] = [];
  readonly peak: number[] = [];
  readonly redisBytes: number[] = [];
  /** Processor time of a request for what memory does not have. */
  readonly firstLook: number[] = [];
  readonly loads = kinds.map(() => ({ rate: [] as number[], p99: [] as number[], cpu: [] as number[] }));
}

interface Contestant {
  readonly store: GrowthStore;
  readonly server: Server;
  readonly measured: Measured;
}

/** What requests, starts and memory cost when more and more is known. Returns the exit code. */
export function measureGrowth(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const options = readOptions(args);
    const { descriptors } = options.extent;
    requireParts('redis-server');
    const machine = machineText(await describeMachine());
    const measured = await withinLimit(signal, (limited) => measureAll(options, limited));
    const lines = linesOf(measured);
    const ok = lines.every((line) => holds(line));
    const what = `Medians of ${options.extent.rounds} turns`;
    const block = `${growthTable(descriptors, lines)}\n\n${measuredNow(what, machine)}`;
    process.stdout.write(`${block}\n\n${ok ? 'holds' : 'DOES NOT HOLD'}\n`);
    if (options.publish) say(`the table is in ${(await publish(block, 'growth')).join(' and ')}`);
    return ok ? 0 : 1;
  });
}

async function withinLimit<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const limit = AbortSignal.timeout(longestMs);
  try {
    return await work(AbortSignal.any([signal, limit]));
  } catch (error) {
    if (!limit.aborted || signal.aborted) throw error;
    throw new CannotMeasure(
      `not done within ${longestMs / 60_000} minutes: the machine has too much else to do`,
    );
  }
}

async function measureAll(
  { extent, folder }: { extent: Extent; folder: string },
  signal: AbortSignal,
): Promise<Measured[]> {
  await using cleanup = new AsyncDisposableStack();
  const path = await roomFor(folder, extent.descriptors, cleanup);
  const redis = cleanup.use(await startRedis());
  const all: Contestant[] = [];
  for (const descriptors of extent.descriptors) {
    const root = join(path, `${descriptors}`, 'root');
    say(`writing a store of ${descriptors} descriptors`);
    const store = await GrowthStore.write(root, descriptors, signal);
    const measured = new Measured();
    await (await start(store, redis, signal))[Symbol.asyncDispose](); // which gives the store its name
    measured.redisBytes.push((await share(store, redis, signal)) / descriptors);
    for (let started = 1; started < extent.starts; started += 1) {
      const server = await startMeasured(store, redis, measured, signal);
      await lookFirst({ store, server, measured }, signal);
      await server[Symbol.asyncDispose]();
    }
    const contestant = { store, server: await startMeasured(store, redis, measured, signal), measured };
    cleanup.use(contestant.server);
    await lookFirst(contestant, signal);
    all.push(contestant);
  }
  for (const contestant of all) {
    say(`warming up with ${contestant.store.linked} images`);
    await warmUp(contestant, extent.warmUp, signal);
  }
  for (let round = 1; round <= extent.rounds; round += 1) {
    say(`round ${round} of ${extent.rounds}`);
    for (const [index, kind] of kinds.entries()) {
      for (const contestant of all) await takeTurn(contestant, kind, index, extent.requests, signal);
    }
  }
  for (const { server, measured } of all) measured.peak.push((await memoryOf(server.pid)).peak);
  return all.map(({ measured }) => measured);
}

/** A folder that is gone in the end. `rm`, because a million folders take Node minutes. */
async function roomFor(
  parent: string,
  descriptors: readonly number[],
  cleanup: AsyncDisposableStack,
): Promise<string> {
  const wanted = descriptors.reduce((sum, count) => sum + count, 0) * inodesPerDescriptor;
  const { ffree } = await statfs(parent);
  if (ffree < wanted) {
    throw new CannotMeasure(
      `${parent} has room for ${ffree} files, not ${wanted}: --folder names another one`,
    );
  }
  const path = await mkdtemp(join(parent, 'cistern-growth-'));
  cleanup.defer(async () => {
    await promisify(execFile)('rm', ['-rf', path]);
  });
  return path;
}

async function start(store: GrowthStore, redis: RedisServer, signal: AbortSignal): Promise<Server> {
  const options = {
    folder: join(store.root, '..'),
    // Nothing is asked of the upstream.
    proxy: { remoteurl: `http://127.0.0.1:${await freePort()}`, freshness: '1h' },
    root: store.root,
    redis: redis.addr,
    deletes: { grace: '15m' },
    requestsLogged: false,
  };
  return startServer('cistern', options, signal);
}

async function startMeasured(
  store: GrowthStore,
  redis: RedisServer,
  measured: Measured,
  signal: AbortSignal,
): Promise<Server> {
  const began = performance.now();
  const server = await start(store, redis, signal);
  measured.answering.push((performance.now() - began) / 1000);
  while (!(await fetch(`${server.url}/readyz`)).ok) await delay(5, undefined, { signal });
  measured.ready.push((performance.now() - began) / 1000);
  measured.startCpu.push(await processorTimeOf(server.pid));
  measured.idle.push((await memoryOf(server.pid)).resident);
  return server;
}

/** Each part of a hundred images once, of which nothing is in memory yet: in order, so that all stores are asked alike. */
async function lookFirst({ store, server, measured }: Contestant, signal: AbortSignal): Promise<void> {
  const wanted = Array.from({ length: hotImages }, (_, n) => store.at(n)).flatMap((linked) => [
    tagOf(linked),
    ...linked.image.parts.map(({ digest }) => blobOf(linked, digest)),
  ]);
  const count = wanted.length;
  const next = (): Asked | undefined => {
    signal.throwIfAborted();
    return wanted.shift();
  };
  const before = await processorTimeOf(server.pid);
  await loadRequests(server.url, { connections, next });
  const cpu = (await processorTimeOf(server.pid)) - before;
  measured.firstLook.push((cpu / count) * 1_000_000);
}

/** Tells Redis of everything in the store, as other replicas do. Returns the bytes that Redis took for descriptors. */
async function share(store: GrowthStore, redis: RedisServer, signal: AbortSignal): Promise<number> {
  const { keys, values } = await redisValuesOf(store.root);
  const before = await memoryUsed(redis);
  await inBatches(redis, store.descriptors(), signal, (pipeline, [key, descriptor]) =>
    pipeline.set(
      keys.descriptor(key),
      values.seal(keys.descriptor(key), formatTimed(descriptor)),
      'EX',
      lifetimeSeconds,
    ),
  );
  const taken = (await memoryUsed(redis)) - before;
  const began = Date.now();
  await inBatches(redis, store.tags(), signal, (pipeline, [key, descriptor]) =>
    pipeline.hset(keys.tag(key), {
      began,
      descriptor: values.seal(timed(keys.tag(key), String(began)), formatDescriptor(descriptor)),
    }),
  );
  return taken;
}

async function inBatches<T>(
  redis: RedisServer,
  entries: Iterable<T>,
  signal: AbortSignal,
  add: (pipeline: Pipeline, entry: T) => void,
): Promise<void> {
  let pipeline = redis.client().pipeline();
  for (const entry of entries) {
    add(pipeline, entry);
    if (pipeline.length < batch) continue;
    signal.throwIfAborted();
    await pipeline.exec();
    pipeline = redis.client().pipeline();
  }
  await pipeline.exec();
}

async function memoryUsed(redis: RedisServer): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.client().info('memory'))?.[1]);
}

async function warmUp(contestant: Contestant, most: number, signal: AbortSignal): Promise<void> {
  for (const kind of kinds) await load(contestant, kind, kind.hot ? hotImages * 10 : most, signal);
}

async function takeTurn(
  contestant: Contestant,
  kind: Kind,
  index: number,
  count: number,
  signal: AbortSignal,
): Promise<void> {
  const { server, measured } = contestant;
  const before = await processorTimeOf(server.pid);
  const { requestsPerSecond, p99 } = await load(contestant, kind, count, signal);
  const cpu = (await processorTimeOf(server.pid)) - before;
  measured.loads[index]?.rate.push(requestsPerSecond);
  measured.loads[index]?.p99.push(p99);
  measured.loads[index]?.cpu.push((cpu / count) * 1_000_000);
}

function load({ store, server }: Contestant, { hot, asked }: Kind, count: number, signal: AbortSignal) {
  const among = hot ? Math.min(hotImages, store.linked) : store.linked;
  let left = count;
  const next = (): Asked | undefined => {
    signal.throwIfAborted();
    left -= 1;
    return left < 0 ? undefined : asked(store.at(Math.floor(Math.random() * among)));
  };
  return loadRequests(server.url, { connections, next });
}

/**
 * The processor's time is what is judged of requests and starts, since it tells of Cistern alone. What is asked for
 * often costs the same whatever else is stored, and so does a look into Redis and the storage. Requests among all
 * need such a look the more often the more is stored, and are only told.
 */
function linesOf(measured: readonly Measured[]): Line[] {
  const line = (
    title: string,
    unit: string,
    of: (each: Measured) => readonly number[],
    limit?: Line['limit'],
  ) => ({
    title,
    unit,
    values: measured.map((each) => of(each)),
    ...(limit === undefined ? {} : { limit }),
  });
  const inMebibytes = (bytes: readonly number[]): number[] => bytes.map((each) => each / mebibyte);
  const loads = kinds.flatMap(({ title, hot }, index) => {
    const what = `${title}, ${hot ? `among ${hotImages} images` : 'among all'}`;
    const atMost = (factor: number): Line['limit'] => (hot ? { factor } : undefined);
    return [
      line(`${what}: rate`, '/s', ({ loads }) => loads[index]?.rate ?? []),
      line(`${what}: p99`, 'ms', ({ loads }) => loads[index]?.p99 ?? [], atMost(3)),
      line(`${what}: processor`, 'µs', ({ loads }) => loads[index]?.cpu ?? [], atMost(1.5)),
    ];
  });
  return [
    line('start: until `/v2/` answers', 's', ({ answering }) => answering),
    line('start: until ready', 's', ({ ready }) => ready),
    line('start: processor', 's', ({ startCpu }) => startCpu, { factor: 1.5 }),
    line('first look at each part of 100 images: processor', 'µs', ({ firstLook }) => firstLook, {
      factor: 1.5,
    }),
    ...loads,
    line('resident memory, started', 'MiB', ({ idle }) => inMebibytes(idle), { factor: 1.2 }),
    line('resident memory, peak', 'MiB', ({ peak }) => inMebibytes(peak), { below: cachesFull }),
    line('Redis, for each descriptor', 'bytes', ({ redisBytes }) => redisBytes, { factor: 1.2 }),
  ];
}

function readOptions(args: readonly string[]): { extent: Extent; folder: string; publish: boolean } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        quick: { type: 'boolean', default: false },
        folder: { type: 'string', default: '/dev/shm' },
        publish: { type: 'boolean', default: false },
      },
    });
    return { extent: values.quick ? quick : full, folder: values.folder, publish: values.publish };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CannotMeasure(
      `${error.message}\nusage: npm run bench:growth -- [--quick] [--folder DIR] [--publish]`,
    );
  }
}
