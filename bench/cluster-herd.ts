import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { blobOf } from '../test/parts/mirror.js';
import { startReplicas } from '../test/parts/replicas.js';
import { requireParts, runBenchmark, say } from './command.js';
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
  const paths = layers.map(({ digest }) => `/v2/herd/blobs/${digest}`);
  const direct = await pullInOwnProcess([upstream.url], paths, herd.layerBytes);
  const before = upstream.asked({ method: 'GET', path: /\/blobs\// }).length;
  const bases = Array.from({ length: herd.clients }, (_, n) => replica(n % herd.replicas).url);
  const seconds = await pullInOwnProcess(bases, paths, herd.layerBytes);
  const asked = upstream.asked({ method: 'GET', path: /\/blobs\// }).slice(before);
  const bytes = asked.reduce((sum, request) => sum + request.bodyBytes, 0);
  say(`${herd.clients} clients: ${seconds.toFixed(2)} s, one alone ${direct.toFixed(2)} s`);
  return { gets: asked.length, bytes: bytes / (herd.layers * herd.layerBytes), time: seconds / direct };
}

/** Until each client has everything from its base, in seconds. */
async function pullInOwnProcess(
  bases: readonly string[],
  paths: readonly string[],
  size: number,
): Promise<number> {
  const script = fileURLToPath(new URL('pullers.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [
    script,
    JSON.stringify({ bases, paths, size }),
  ]);
  return Number(stdout);
}
