import { get } from 'node:http';
import { setPriority } from 'node:os';

/**
 * Requests `/healthz` of every replica at a fixed pace, each time on a new connection, as Kubernetes does. Runs in a
 * process of its own, with a higher priority if that is allowed, so that it measures the replicas and not itself.
 * Writes the results as JSON on SIGTERM.
 */
export interface ProbeTask {
  readonly urls: readonly string[];
  /** In milliseconds. */
  readonly every: number;
  readonly from: string;
}

/** In milliseconds. */
export interface Latency {
  readonly count: number;
  readonly failed: number;
  readonly median: number;
  readonly p99: number;
  readonly worst: number;
}

export interface ProbeResult {
  readonly replicas: readonly Latency[];
  /** The delay of this process's own timers. */
  readonly timers: Latency;
}

const limitMs = 60_000;

function ask(url: string, from: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  get(
    `${url}/healthz`,
    { agent: false, localAddress: from, signal: AbortSignal.timeout(limitMs) },
    (response) => {
      response.resume();
      response.once('close', () =>
        response.statusCode === 200 ? resolve() : reject(new Error('not healthy')),
      );
    },
  ).once('error', reject);
  return promise;
}

function latencyOf(times: readonly number[], failed: number): Latency {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { count: times.length, failed, median: at(0.5), p99: at(0.99), worst: at(1) };
}

if (process.argv[2] !== undefined) {
  const { urls, every, from } = JSON.parse(process.argv[2]) as ProbeTask;
  try {
    setPriority(-10);
  } catch {
    // not allowed: the probe runs with normal priority
  }
  const seen = urls.map(() => ({ times: [] as number[], failed: 0 }));
  const late: number[] = [];
  let due = performance.now() + every;
  const timer = setInterval(() => {
    const now = performance.now();
    late.push(Math.max(0, now - due));
    due = now + every;
    for (const [index, url] of urls.entries()) {
      const began = performance.now();
      const mine = seen[index];
      ask(url, from).then(
        () => mine?.times.push(performance.now() - began),
        () => {
          if (mine === undefined) return;
          mine.failed += 1;
          mine.times.push(performance.now() - began);
        },
      );
    }
  }, every);
  process.once('SIGTERM', () => {
    clearInterval(timer);
    const replicas = seen.map(({ times, failed }) => latencyOf(times, failed));
    const result: ProbeResult = { replicas, timers: latencyOf(late, 0) };
    process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
  });
  process.stdout.write('at work\n');
}
