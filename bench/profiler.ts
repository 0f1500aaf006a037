/**
 * Loaded into a server beside its own code (`node --import`): profiles it from when it listens, so without its start,
 * until it exits, and writes what was found into the folder that BENCH_PROFILE names. Plain enough for Node to strip.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

/** Beside the profiles, in a file of its own. Times in seconds, delays in milliseconds. */
export interface Facts {
  readonly elapsed: number;
  readonly mainThread: number;
  /** Of all threads. */
  readonly user: number;
  readonly system: number;
  /** How late a timer was. */
  readonly delay: { readonly p50: number; readonly p99: number; readonly max: number };
}

const listening = 'tracing:net.server.listen:asyncEnd';
const sampleMicroseconds = 500;
const sampleBytes = 32 * 1024;
const delayResolution = 5;

const folder = process.env['BENCH_PROFILE'];
if (isMainThread && folder !== undefined) {
  const begin = (): void => {
    unsubscribe(listening, begin);
    profile(folder);
  };
  subscribe(listening, begin);
}

/** A session with one's own thread answers before `post` returns. */
function profile(folder: string): void {
  const session = new Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.setSamplingInterval', { interval: sampleMicroseconds });
  session.post('Profiler.start');
  // Also what is gone by the end: it is allocation that costs, not what remains.
  const collected = { includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true };
  session.post('HeapProfiler.startSampling', { samplingInterval: sampleBytes, ...collected });
  const delays = monitorEventLoopDelay({ resolution: delayResolution });
  delays.enable();
  const before = { all: process.cpuUsage(), thread: process.threadCpuUsage(), time: performance.now() };
  process.once('exit', () => {
    const all = process.cpuUsage(before.all);
    const thread = process.threadCpuUsage(before.thread);
    // What it measures is the timer's whole period.
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1_000_000 - delayResolution);
    const facts: Facts = {
      elapsed: (performance.now() - before.time) / 1000,
      mainThread: (thread.user + thread.system) / 1_000_000,
      user: all.user / 1_000_000,
      system: all.system / 1_000_000,
      delay: { p50: late(delays.percentile(50)), p99: late(delays.percentile(99)), max: late(delays.max) },
    };
    const write = (kind: string, content: unknown): void =>
      writeFileSync(join(folder, `${process.pid}.${kind}`), JSON.stringify(content));
    write('facts', facts);
    session.post('Profiler.stop', (error, result) => write('cpuprofile', error ?? result.profile));
    session.post('HeapProfiler.stopSampling', (error, result) =>
      write('heapprofile', error ?? result.profile),
    );
  });
}
