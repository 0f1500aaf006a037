import { blobOf } from '../test/parts/mirror.js';
import { receivesAll, startReplicas } from '../test/parts/replicas.js';
import { CannotMeasure, requireParts, runBenchmark, say } from './command.js';
import { describeMachine, machineText } from './machine.js';
import { summarize } from './statistics.js';

const MiB = 1024 * 1024;

interface Herd {
  readonly replicas: number;
  readonly clients: number;
  readonly layers: number;
  readonly layerBytes: number;
  readonly linkBytesPerSecond: number;
  readonly rounds: number;
}

const herds: readonly Herd[] = [
  { replicas: 3, clients: 24, layers: 1, layerBytes: 32 * MiB, linkBytesPerSecond: 10_000_000, rounds: 3 },
  { replicas: 4, clients: 100, layers: 12, layerBytes: 2 * MiB, linkBytesPerSecond: 5_000_000, rounds: 3 },
];

/** How long cold content takes to reach many clients of several replicas, of what one download takes without them. */
export function measureCluster(): Promise<number> {
  return runBenchmark(async () => {
    requireParts('redis-server');
    process.stdout.write(`${machineText(await describeMachine())}\n\n`);
    process.stdout.write('| herd | upstream GETs | bytes over the link | time of one direct download’s |\n');
    process.stdout.write('|---|---:|---:|---:|\n');
    for (const herd of herds) process.stdout.write(await rowOf(herd));
    return 0;
  });
}

async function rowOf(herd: Herd): Promise<string> {
  const { replicas, clients, layers, layerBytes, linkBytesPerSecond } = herd;
  const rounds: Round[] = [];
  for (let round = 0; round < herd.rounds; round += 1) rounds.push(await pull(herd, round));
  const column = (read: (round: Round) => number, digits: number): string =>
    `${summarize(rounds.map(read)).median.toFixed(digits)} (${rounds.map((round) => read(round).toFixed(digits)).join(', ')})`;
  const what = `${clients} clients of ${replicas} replicas, ${layers} × ${layerBytes / MiB} MiB over ${linkBytesPerSecond / 1_000_000} MB/s`;
  return `| ${what} | ${column(({ gets }) => gets, 0)} | ${column(({ bytes }) => bytes, 2)} × | ${column(({ time }) => time, 2)} × |\n`;
}

interface Round {
  readonly gets: number;
  /** Of the content's size. */
  readonly bytes: number;
  /** Until the last client has everything, of one direct download. */
  readonly time: number;
}

async function pull(herd: Herd, round: number): Promise<Round> {
  await using cluster = await startReplicas({
    count: herd.replicas,
    upstream: { bytesPerSecond: herd.linkBytesPerSecond },
  });
  const { upstream, replica } = cluster;
  const layers = Array.from({ length: herd.layers }, (_, n) => blobOf(herd.layerBytes, `herd ${round} ${n}`));
  for (const layer of layers) upstream.addBlob('herd', layer);
  const path = (digest: string): string => `herd/blobs/${digest}`;

  // Each client three layers at once, as containerd has it.
  const pullAll = async (url: (path: string) => string): Promise<void> => {
    const queue = [...layers];
    const worker = async (): Promise<void> => {
      for (let layer = queue.shift(); layer !== undefined; layer = queue.shift()) {
        if (!(await receivesAll(url(path(layer.digest)), layer.bytes)))
          throw new CannotMeasure('a client got wrong bytes');
      }
    };
    await Promise.all([worker(), worker(), worker()]);
  };
  const direct = await secondsOf(() => pullAll((blob) => `${upstream.url}/v2/${blob}`));
  const before = upstream.asked({ method: 'GET', path: /\/blobs\// }).length;
  const seconds = await secondsOf(() =>
    Promise.all(
      Array.from({ length: herd.clients }, (_, n) => pullAll((blob) => replica(n % herd.replicas).v2(blob))),
    ),
  );
  const asked = upstream.asked({ method: 'GET', path: /\/blobs\// }).slice(before);
  const bytes = asked.reduce((sum, request) => sum + request.bodyBytes, 0);
  say(`${herd.clients} clients: ${seconds.toFixed(2)} s, one alone ${direct.toFixed(2)} s`);
  return { gets: asked.length, bytes: bytes / (herd.layers * herd.layerBytes), time: seconds / direct };
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}
