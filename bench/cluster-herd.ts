import type { NewStore } from '../test/parts/stores.js';
import { blobOf } from '../test/parts/mirror.js';
import { startReplicas } from '../test/parts/replicas.js';
import { say } from './command.js';
import { processorTimeOf } from './process-time.js';
import { pullInOwnProcess } from './pull.js';
import { asInProduction } from './replica-settings.js';
import { summarize } from './statistics.js';

const MiB = 1024 * 1024;

export interface Herd {
  readonly replicas: number;
  readonly clients: number;
  readonly layers: number;
  /** In bytes. */
  readonly layerBytes: number;
  readonly linkBytesPerSecond: number;
  readonly rounds: number;
}

/** Where the replicas keep content. */
export interface HerdStore {
  readonly title: string;
  readonly newStore: NewStore;
}

export const herds: readonly Herd[] = [
  { replicas: 3, clients: 24, layers: 1, layerBytes: 32 * MiB, linkBytesPerSecond: 10_000_000, rounds: 5 },
  { replicas: 4, clients: 100, layers: 1, layerBytes: 16 * MiB, linkBytesPerSecond: 5_000_000, rounds: 5 },
  { replicas: 4, clients: 100, layers: 12, layerBytes: 2 * MiB, linkBytesPerSecond: 5_000_000, rounds: 5 },
];

export const quickHerds: readonly Herd[] = [
  { replicas: 2, clients: 6, layers: 2, layerBytes: MiB, linkBytesPerSecond: 5_000_000, rounds: 1 },
];

export const herdHead = `| herd | upstream GETs | bytes over the link | time of one direct download’s | processor time of all replicas |
|---|---:|---:|---:|---:|`;

interface Round {
  readonly gets: number;
  /** Of the content's size. */
  readonly bytes: number;
  /** Until the last client has everything, of one direct download. */
  readonly time: number;
  /** Processor time that the replicas took together, in seconds. */
  readonly processor: number;
}

/** How long cold content takes to reach many clients of several replicas, of what one download takes without them. */
export async function measureHerd(
  herd: Herd,
  { title, newStore }: HerdStore,
  signal: AbortSignal,
): Promise<string> {
  const { replicas, clients, layers, layerBytes, linkBytesPerSecond } = herd;
  const rounds: Round[] = [];
  for (let round = 0; round < herd.rounds; round += 1) rounds.push(await pull(herd, round, newStore, signal));
  const column = (read: (round: Round) => number, digits: number, unit: string): string => {
    const { median, min, max } = summarize(rounds.map(read));
    return `${median.toFixed(digits)}${unit} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
  };
  const what = `${clients} clients of ${replicas} replicas over a ${title}, ${layers} × ${layerBytes / MiB} MiB over ${linkBytesPerSecond / 1_000_000} MB/s`;
  const cells = [
    what,
    column(({ gets }) => gets, 0, ''),
    column(({ bytes }) => bytes, 2, ' ×'),
    column(({ time }) => time, 2, ' ×'),
    column(({ processor }) => processor, 1, ' s'),
  ];
  return `| ${cells.join(' | ')} |`;
}

async function pull(herd: Herd, round: number, newStore: NewStore, signal: AbortSignal): Promise<Round> {
  await using cluster = await startReplicas({
    ...asInProduction,
    count: herd.replicas,
    upstream: { bytesPerSecond: herd.linkBytesPerSecond },
    newStore,
  });
  const { upstream, replica, replicas } = cluster;
  const layers = Array.from({ length: herd.layers }, (_, n) => blobOf(herd.layerBytes, `herd ${round} ${n}`));
  for (const layer of layers) upstream.addBlob('herd', layer);
  const contents = layers.map(({ digest, size }) => ({ path: `/v2/herd/blobs/${digest}`, size }));
  const direct = await pullInOwnProcess([upstream.url], contents, signal);
  const before = upstream.asked({ method: 'GET', path: /\/blobs\// }).length;
  const processorBefore = await processorTimeOfAll(replicas);
  const bases = Array.from({ length: herd.clients }, (_, n) => replica(n % herd.replicas).url);
  const seconds = await pullInOwnProcess(bases, contents, signal);
  const processor = (await processorTimeOfAll(replicas)) - processorBefore;
  const asked = upstream.asked({ method: 'GET', path: /\/blobs\// }).slice(before);
  const bytes = asked.reduce((sum, request) => sum + request.bodyBytes, 0);
  say(
    `${herd.clients} clients: ${seconds.toFixed(2)} s, one alone ${direct.toFixed(2)} s, processor ${processor.toFixed(2)} s`,
  );
  return {
    gets: asked.length,
    bytes: bytes / (herd.layers * herd.layerBytes),
    time: seconds / direct,
    processor,
  };
}

async function processorTimeOfAll(replicas: readonly { readonly pid: number }[]): Promise<number> {
  const times = await Promise.all(replicas.map(({ pid }) => processorTimeOf(pid)));
  return times.reduce((sum, time) => sum + time, 0);
}
