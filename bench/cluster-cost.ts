import { setTimeout as delay } from 'node:timers/promises';
import { imageOf, randomLayer, type Image } from '../test/parts/image.js';
import { metric } from '../test/parts/mirror.js';
import { until } from '../test/parts/process.js';
import { startReplicas, type Replicas } from '../test/parts/replicas.js';
import type { S3Counter } from '../test/parts/s3-counter.js';
import type { HerdStore } from './cluster-herd.js';
import { say } from './command.js';
import { pullInOwnProcess, type Wanted } from './pull.js';
import { RedisCommands } from './redis-commands.js';
import { asInProduction } from './replica-settings.js';

const KiB = 1024;
/** Longer than anything that is gathered before it is sent. */
const quietMs = 250;

export interface CostPlan {
  /** Ascending, from 1 on. */
  readonly replicas: readonly number[];
  /** Of each replica. */
  readonly clients: number;
  readonly layers: number;
  /** In bytes. */
  readonly layerBytes: number;
  readonly linkBytesPerSecond: number;
  readonly rounds: number;
}

export const costPlan: CostPlan = {
  replicas: [1, 2, 4, 8],
  clients: 4,
  layers: 6,
  // Small over a slow link: however many replicas share this machine, a pull takes the link's 1.3 s. Leases that are
  // extended and spools that are announced come by the clock, and would count what the machine lacks.
  layerBytes: 512 * KiB,
  linkBytesPerSecond: 2_500_000,
  rounds: 5,
};

export const quickCostPlan: CostPlan = { ...costPlan, replicas: [1, 2, 3], clients: 2, layers: 2, rounds: 1 };

export interface CostStore extends HerdStore {
  /** Between the replicas and their bucket; `undefined`: a folder. */
  readonly s3: S3Counter | undefined;
}

/** What all pulls of one kind took together. */
export interface Costs {
  readonly upstreamRequests: number;
  readonly upstreamBytes: number;
  /** Between replicas. */
  readonly peerBytes: number;
  readonly redisCommands: number;
  readonly s3Requests: number;
}

export interface CostRow extends Costs {
  readonly replicas: number;
  readonly content: 'cold' | 'warm';
  /** Of the image. */
  readonly imageBytes: number;
}

/**
 * Each client of each replica pulls an image that nobody has, then again; for each number of replicas. Of each count
 * the least of all rounds: what depends on how long a pull takes, as leases do that are extended, only adds to it.
 */
export async function measureCosts(
  plan: CostPlan,
  store: CostStore,
  signal: AbortSignal,
): Promise<CostRow[]> {
  const rows: CostRow[] = [];
  for (const replicas of plan.replicas) {
    const rounds: (readonly [cold: CostRow, warm: CostRow])[] = [];
    for (let round = 0; round < plan.rounds; round += 1) {
      rounds.push(await pullTwice(plan, store, replicas, signal));
    }
    rows.push(leastOf(rounds.map(([cold]) => cold)), leastOf(rounds.map(([, warm]) => warm)));
  }
  return rows;
}

async function pullTwice(
  plan: CostPlan,
  store: CostStore,
  count: number,
  signal: AbortSignal,
): Promise<[CostRow, CostRow]> {
  const { linkBytesPerSecond: bytesPerSecond, clients } = plan;
  await using cluster = await startReplicas({
    ...asInProduction,
    count,
    upstream: { bytesPerSecond },
    newStore: store.newStore,
  });
  const layers = Array.from({ length: plan.layers }, (_, n) => randomLayer(plan.layerBytes, `costs ${n}`));
  const image = imageOf({ layers });
  cluster.upstream.addImage('costs', 'v1', image);
  using commands = await RedisCommands.start(cluster.redis.addr);
  const bases = cluster.replicas.flatMap(({ url }) => Array.from({ length: clients }, () => url));
  const imageBytes = contentsOf(image).reduce((sum, { size }) => sum + size, 0);
  const measure = async (content: 'cold' | 'warm'): Promise<CostRow> => {
    const before = await readCounters(cluster, commands, store.s3);
    await pullImage(bases, image, signal);
    await untilSettled(cluster, commands);
    const after = await readCounters(cluster, commands, store.s3);
    const row = { replicas: count, content, imageBytes, ...difference(before, after) };
    say(`${count} replicas over a ${store.title}, ${content}: ${row.redisCommands} Redis commands`);
    return row;
  };
  return [await measure('cold'), await measure('warm')];
}

function contentsOf({ manifest, config, layers }: Image): Wanted[] {
  return [
    { path: '/v2/costs/manifests/v1', size: manifest.size },
    ...[config, ...layers].map(({ digest, size }) => ({ path: `/v2/costs/blobs/${digest}`, size })),
  ];
}

async function pullImage(bases: readonly string[], image: Image, signal: AbortSignal): Promise<void> {
  const [manifest, ...blobs] = contentsOf(image);
  if (manifest !== undefined) await pullInOwnProcess(bases, [manifest], signal);
  await pullInOwnProcess(bases, blobs, signal);
}

/** Until everything is stored and nothing is on its way behind the requests. */
async function untilSettled({ replicas }: Replicas, commands: RedisCommands): Promise<void> {
  const running = (): Promise<number[]> =>
    Promise.all(replicas.map((replica) => metric(replica, 'cistern_transfers_running')));
  const isQuiet = async (): Promise<boolean> => {
    const before = commands.count;
    await delay(quietMs);
    return commands.count === before;
  };
  await until(
    async () => (await running()).every((count) => count === 0) && (await isQuiet()),
    AbortSignal.timeout(60_000),
  );
}

/** What all replicas of a cluster have taken so far. */
async function readCounters(
  { upstream, replicas }: Replicas,
  commands: RedisCommands,
  s3: S3Counter | undefined,
): Promise<Costs> {
  const peerBytes = await Promise.all(
    replicas.map((replica) => metric(replica, 'cistern_peer_sent_bytes_total')),
  );
  return {
    upstreamRequests: upstream.requests.length,
    upstreamBytes: upstream.bytesSent(),
    peerBytes: peerBytes.reduce((sum, bytes) => sum + bytes, 0),
    redisCommands: commands.count,
    s3Requests: s3?.ofContent().length ?? 0,
  };
}

const counted = ['upstreamRequests', 'upstreamBytes', 'peerBytes', 'redisCommands', 's3Requests'] as const;

function eachOf(value: (name: (typeof counted)[number]) => number): Costs {
  const [upstreamRequests, upstreamBytes, peerBytes, redisCommands, s3Requests] = counted.map(value);
  return { upstreamRequests, upstreamBytes, peerBytes, redisCommands, s3Requests } as Costs;
}

function difference(before: Costs, after: Costs): Costs {
  return eachOf((name) => after[name] - before[name]);
}

function leastOf(rows: readonly CostRow[]): CostRow {
  const [first] = rows;
  if (first === undefined) throw new Error('nothing was measured');
  return { ...first, ...eachOf((name) => Math.min(...rows.map((row) => row[name]))) };
}
