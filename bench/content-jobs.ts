import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readAdminKey } from '../src/admin/access.js';
import { RemoteAdministration } from '../src/admin/remote.js';
import type { JobName, JobSummary } from '../src/scheduler/job.js';
import { FilesystemRecordStore } from '../src/storage/filesystem/record-store.js';
import { WorkFolder } from '../src/storage/filesystem/work-folder.js';
import { temporaryFolder } from '../test/parts/folder.js';
import { freePort } from '../test/parts/ports.js';
import { CannotMeasure, runBenchmark, say } from './command.js';
import { writeLargeStore, type LargeStore } from './large-store.js';
import { latencyDuring, type Latency } from './latency.js';
import { describeMachine, machineText } from './machine.js';
import { memoryOf, resetPeak } from './process-memory.js';
import { startServer, type Server } from './server.js';

const mebibyte = 1024 * 1024;
/** However much is stored. */
const allowedPeak = 200 * mebibyte;
/** For ten times the blobs; in proportion it would be 10. */
const allowedRatio = 15;
const graceMs = 1_000;
const sizes = { full: [20_000, 200_000], quick: [2_000, 20_000] } as const;

interface Step {
  readonly title: string;
  readonly job: JobName;
  /** Whether it did what is measured. */
  readonly did: (summary: JobSummary, store: LargeStore) => boolean;
}

const steps: readonly Step[] = [
  {
    title: 'first look through the storage',
    job: 'reindex',
    did: ({ storedBlobs }, { blobs }) => storedBlobs === blobs,
  },
  {
    title: 'another look',
    job: 'reindex',
    did: ({ storedBlobs }, { blobs }) => storedBlobs === blobs,
  },
  {
    title: 'evict: unlink half',
    job: 'evict',
    did: ({ hiddenBytes }, { bytes }) => Number(hiddenBytes) > bytes / 2,
  },
  {
    title: 'evict: delete it',
    job: 'evict',
    did: ({ storedBlobs, hiddenBytes }, { blobs }) => Number(storedBlobs) < blobs / 2 && hiddenBytes === 0,
  },
];

interface Measured {
  readonly seconds: number;
  /** In bytes. */
  readonly peak: number;
  readonly latency: Latency;
}

/** How the work of the jobs grows with the store, and whether requests go on meanwhile. Returns the exit code. */
export function measureContent(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    const [few, many] = sizes[readPlan(args)];
    const machine = machineText(await describeMachine());
    const small = await measureStore(few, signal);
    const large = await measureStore(many, signal);
    process.stdout.write(`${machine}\n\n${tableOf(few, small, many, large)}`);
    const holds = steps.every((_, n) => {
      const [before, after] = [small[n], large[n]];
      return before !== undefined && after !== undefined && isBounded(before, after);
    });
    process.stdout.write(holds ? '\nholds\n' : '\nDOES NOT HOLD\n');
    return holds ? 0 : 1;
  });
}

async function measureStore(blobs: number, signal: AbortSignal): Promise<Measured[]> {
  await using folder = await temporaryFolder();
  const root = join(folder.path, 'root');
  say(`writing a store of ${blobs} blobs`);
  const store = await writeLargeStore(root, blobs, signal);
  // Nothing is asked of the upstream.
  const proxy = { remoteurl: `http://127.0.0.1:${await freePort()}`, maxsize: Math.floor(store.bytes / 2) };
  const deletes = { grace: `${graceMs}ms` };
  const options = { folder: join(folder.path, 'mirror'), root, proxy, deletes, requestsLogged: false };
  await using server = await startServer('cistern', options, signal);
  const measured: Measured[] = [];
  for (const step of steps) {
    measured.push(await measureStep(server, step, store, signal));
    await delay(2 * graceMs, undefined, { signal }); // what was hidden may go then
  }
  return measured;
}

async function measureStep(
  server: Server,
  { title, job, did }: Step,
  store: LargeStore,
  signal: AbortSignal,
): Promise<Measured> {
  await resetPeak(server.pid);
  const began = performance.now();
  const running = run(server, job, signal);
  const latency = await latencyDuring(`${server.url}/v2/`, running);
  const summary = await running;
  const seconds = (performance.now() - began) / 1000;
  const { peak } = await memoryOf(server.pid);
  const measured = { seconds, peak, latency };
  say(`${store.blobs} blobs | ${title} | ${cells(measured)} | ${JSON.stringify(summary)}`);
  if (!did(summary, store)) throw new Error(`${title} did not do what it should`);
  return measured;
}

async function run(server: Server, job: JobName, signal: AbortSignal): Promise<JobSummary> {
  const key = await readAdminKey(new FilesystemRecordStore(server.root, new WorkFolder(server.root)));
  if (key === undefined) throw new Error('the mirror has not made its identity');
  const mirror = new RemoteAdministration({ host: '127.0.0.1', port: server.debugPort }, key.token);
  for await (const event of mirror.run({ task: 'run', job, dryRun: false }, signal)) {
    if (event.type === 'error') throw new Error(`${job}: ${event.message}`);
    if (event.type === 'result') return event.summary;
  }
  throw new Error(`${job} came to no end`);
}

function isBounded(small: Measured, large: Measured): boolean {
  return Math.max(small.peak, large.peak) < allowedPeak && large.seconds / small.seconds <= allowedRatio;
}

function tableOf(few: number, small: readonly Measured[], many: number, large: readonly Measured[]): string {
  const heads = [few, many].map((blobs) => blobs.toLocaleString('en-US'));
  const columns = heads.map((blobs) => `${blobs} blobs | peak | slowest request (p99) |`);
  const rows = steps.map(({ title }, n) => {
    const [before, after] = [small[n], large[n]];
    if (before === undefined || after === undefined) throw new Error(`${title} was not measured`);
    return `| ${title} | ${cells(before)} | ${cells(after)} | ${(after.seconds / before.seconds).toFixed(1)} |`;
  });
  return [`| step | ${columns.join(' ')} time × |`, `|---|${'---:|'.repeat(7)}`, ...rows, ''].join('\n');
}

function cells({ seconds, peak, latency: { worst, p99 } }: Measured): string {
  const memory = (peak / mebibyte).toFixed(0);
  return `${seconds.toFixed(1)} s | ${memory} MiB | ${worst.toFixed(0)} ms (${p99.toFixed(0)} ms)`;
}

function readPlan(args: readonly string[]): keyof typeof sizes {
  const [option, ...rest] = args;
  if (option === undefined) return 'full';
  if (option === '--quick' && rest.length === 0) return 'quick';
  throw new CannotMeasure('usage: npm run bench:content -- [--quick]');
}
