import { join } from 'node:path';
import { pino } from 'pino';
import { Scrubber } from '../src/content/scrub.js';
import { StorageClock } from '../src/content/storage-clock.js';
import { StoredContent, type StoredContentOptions } from '../src/content/stored-content.js';
import { ActiveRun } from '../src/scheduler/active-run.js';
import type { JobName } from '../src/scheduler/job.js';
import { Metrics } from '../src/telemetry/metrics.js';
import { StoredUsage } from '../src/usage/stored-usage.js';
import { UsageLog } from '../src/usage/usage-log.js';
import { temporaryFolder } from '../test/parts/folder.js';
import { CannotMeasure, runBenchmark, say } from './command.js';
import { loopDelayDuring, proveMeter, type LoopDelay } from './loop-meter.js';
import { LoopStore } from './loop-store.js';
import { describeMachine, machineText, measuredNow } from './machine.js';

/** Besides the collection of garbage; in milliseconds. */
const allowedMs = 50;
const dayMs = 86_400_000;
const log = pino({ level: 'silent' });

interface Step {
  readonly title: string;
  readonly work: () => Promise<unknown>;
}

/** How long each content job keeps the event loop, over a large store in memory. Returns the exit code. */
export function measureLoopDelay(args: readonly string[]): Promise<number> {
  return runBenchmark(async (signal) => {
    if (args.length > 0) throw new CannotMeasure('usage: npm run bench:loop-delay');
    const machine = machineText(await describeMachine());
    await proveMeter();
    await using folder = await temporaryFolder();
    const store = new LoopStore();
    const { links, blobs } = store.size;
    say(`${links} links, ${blobs} blobs`);
    const rows: string[] = [];
    let holds = true;
    for (const { title, work } of stepsOver(store, folder.path, signal)) {
      const found = await loopDelayDuring(work);
      say(`${title}: ${cells(found)}`);
      rows.push(`| ${title} | ${cells(found)} |`);
      holds &&= found.step <= allowedMs + found.collection;
    }
    const head = [
      '| job | longest step | longest delay | longest garbage collection | time |',
      '| --- | ---: | ---: | ---: | ---: |',
    ];
    process.stdout.write([...head, ...rows, '', measuredNow('One run', machine), ''].join('\n'));
    process.stdout.write(holds ? '\nholds\n' : '\nDOES NOT HOLD\n');
    return holds ? 0 : 1;
  });
}

function cells({ longest, step, collection, took }: LoopDelay): string {
  const delays = [step, longest, collection].map((ms) => `${ms.toFixed(0)} ms`);
  return `${delays.join(' | ')} | ${(took / 1000).toFixed(1)} s`;
}

function* stepsOver(store: LoopStore, folder: string, signal: AbortSignal): Generator<Step> {
  const { records } = store;
  const usage = new StoredUsage(records, new UsageLog(records, log, 1_000), log);
  let files = 0;
  const content = (options: Partial<StoredContentOptions> = {}): StoredContent =>
    new StoredContent({
      ...store,
      ...alone,
      inventory: store.inventory,
      clock: new StorageClock(store.inventory),
      usage,
      newFile: () => Promise.resolve(join(folder, `index-${(files += 1)}`)),
      ...withoutDeletion,
      ...options,
    });
  const metrics = new Metrics();
  const run = (name: JobName): ActiveRun =>
    new ActiveRun({ name, signal, leases: [], mayDelete: () => Promise.resolve(true), log, metrics });
  yield { title: 'scrub', work: () => scrubberOf(store).scrub(run('scrub'), { rate: Infinity }) };
  const kept = content();
  yield { title: 'reindex, the first look', work: () => kept.reindex(run('reindex')) };
  yield { title: 'sweep', work: () => kept.sweep(run('sweep')) };
  yield { title: 'list of images', work: () => drain(kept.images(run('reindex'))) };
  yield { title: 'expire, nothing is due', work: () => kept.expire(run('expire')) };
  kept.close();
  const ttlMs = 15 * dayMs;
  const expiring = content({ ttlOf: () => ttlMs, ttls: 'shorter', shortestTtlMs: ttlMs });
  yield { title: 'expire half', work: () => expiring.expire(run('expire')) };
  expiring.close();
  const evicting = content({ maxBytes: 1 });
  yield { title: 'evict the rest', work: () => evicting.evict(run('evict')) };
  yield { title: 'evict, delete what is hidden', work: () => evicting.evict(run('evict')) };
  evicting.close();
}

const withoutDeletion = {
  ttlOf: () => 60 * dayMs,
  ttls: 'longer',
  shortestTtlMs: 60 * dayMs,
  graceMs: 1,
  waitMs: 1,
  maxBytes: undefined,
  minFreeBytes: undefined,
} as const;

/** Of one process, in which nothing runs. */
const alone = {
  inUse: { images: nothing },
  cluster: {
    descriptors: {
      peek: () => undefined,
      get: () => Promise.resolve(undefined),
      put: () => undefined,
      drop: () => undefined,
      share: () => Promise.resolve(),
    },
    tags: {
      get: () => Promise.resolve(undefined),
      now: () => Promise.resolve(undefined),
      put: () => Promise.resolve(true),
      drop: () => undefined,
    },
  },
  freeBytes: () => Promise.resolve(undefined),
  sweepLeftovers: () => Promise.resolve({}),
  observe: () => undefined,
} as const;

function scrubberOf({ inventory, blobs, removal }: LoopStore): Scrubber {
  const expectedBlobs = (): Promise<undefined> => Promise.resolve(undefined);
  const observer = { read: () => undefined, rotten: () => undefined };
  return new Scrubber({ inventory, blobs, removal, waitMs: 1, expectedBlobs, log, observer });
}

async function* nothing(): AsyncGenerator<never> {}

async function drain(pages: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pages);
}
