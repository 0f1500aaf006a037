import { within } from '../async/wait.js';
import type { Cluster } from '../cluster/cluster.js';
import type { Transfers } from '../proxy/transfers.js';
import type { Problems } from '../scheduler/job.js';
import type { Scheduler } from '../scheduler/scheduler.js';
import { StorageError } from '../storage/storage.js';
import type { Metrics } from '../telemetry/metrics.js';
import { version } from '../telemetry/version.js';
import type { RegistryUpstream } from '../upstream/client.js';
import type { Health } from './health.js';

/** The storage knows of jobs; while it is away the rest is told without them. */
const jobsMs = 3_000;

export interface StatusParts {
  readonly health: Pick<Health, 'failing' | 'notReady'>;
  readonly metrics: Metrics;
  readonly upstreams: readonly Pick<RegistryUpstream, 'host' | 'budget' | 'breakerState'>[];
  readonly transfers: Pick<Transfers, 'running'>;
  readonly cluster: Pick<Cluster, 'peers'>;
  readonly scheduler: Pick<Scheduler, 'jobs'>;
  /** As the configuration calls it. */
  readonly driver: string;
}

/** One replica at a glance, for whoever is on call. Times are ISO 8601, sizes bytes; what is not known is left out. */
export interface Status {
  readonly version: string;
  readonly node: string;
  readonly started: string;
  readonly ready: boolean;
  /** Checks that fail, and why. */
  readonly failing: Readonly<Record<string, string>>;
  readonly upstreams: readonly {
    readonly host: string;
    /** `open`: it failed too often and is left alone; `half-open`: one request tries. */
    readonly breaker: 'closed' | 'open' | 'half-open';
    readonly pullsLeft?: number;
    readonly pullLimit?: number;
  }[];
  readonly transfers: readonly { readonly digest: string; readonly bytes: number; readonly size?: number }[];
  readonly spool: { readonly bytes: number; readonly limit: number };
  /** Without it this replica knows of no other. */
  readonly cluster?: {
    readonly address?: string;
    readonly redis: Readonly<Record<string, 'usable' | 'away'>>;
  };
  /** When it was last looked through. */
  readonly storage: {
    readonly driver: string;
    readonly blobs: number;
    readonly bytes: number;
    readonly limit?: number;
  };
  readonly jobs: readonly JobStatus[] | 'unknown: the storage does not answer';
}

export interface JobStatus {
  readonly name: string;
  readonly next?: string;
  readonly outcome?: string;
  readonly ended?: string;
  readonly runner?: string;
  readonly error?: string;
  /** The number of problems in the last run, and the first few of them. */
  readonly problems?: Problems;
}

interface Gauge {
  get(): Promise<{
    readonly values: readonly {
      readonly value: number;
      readonly labels: Readonly<Record<string, unknown>>;
    }[];
  }>;
}

export class StatusReport {
  constructor(private readonly parts: StatusParts) {}

  async read(): Promise<Status> {
    const { health, metrics, upstreams, transfers, driver } = this.parts;
    const limit = await valueOf(metrics.storedLimit);
    const [blobs, bytes] = [await valueOf(metrics.storedBlobs), await valueOf(metrics.storedBytes)];
    const cluster = await this.#cluster();
    return {
      version,
      node: process.version,
      started: new Date(performance.timeOrigin).toISOString(),
      ready: health.notReady() === undefined,
      failing: health.failing(),
      upstreams: upstreams.map((upstream) => ({
        host: upstream.host,
        breaker: upstream.breakerState(),
        ...(upstream.budget && { pullsLeft: upstream.budget.remaining, pullLimit: upstream.budget.limit }),
      })),
      transfers: transfers.running().map(({ digest, length, size }) => ({
        digest,
        bytes: length,
        ...(size === undefined ? {} : { size }),
      })),
      spool: { bytes: await valueOf(metrics.spoolBytes), limit: await valueOf(metrics.spoolLimit) },
      ...(cluster === undefined ? {} : { cluster }),
      storage: { driver, blobs, bytes, ...(limit === Infinity ? {} : { limit }) },
      jobs: await this.#jobs(),
    };
  }

  async #cluster(): Promise<Status['cluster']> {
    const { peers } = this.parts.cluster;
    if (peers === undefined) return undefined;
    const { values } = await this.parts.metrics.redisUsable.get();
    const redis = values.map(({ labels, value }) => [
      String(labels.connection),
      value === 1 ? ('usable' as const) : ('away' as const),
    ]);
    const address = peers.url();
    return { ...(address === undefined ? {} : { address }), redis: Object.fromEntries(redis) };
  }

  async #jobs(): Promise<Status['jobs']> {
    const unknown = 'unknown: the storage does not answer';
    const read = this.parts.scheduler.jobs().then((jobs) =>
      jobs.map(({ name, nextMs, run }) => ({
        name,
        ...timeAs('next', nextMs),
        ...(run === undefined ? {} : { outcome: run.outcome, runner: run.runner }),
        ...timeAs('ended', run?.endedMs),
        ...(run?.error === undefined ? {} : { error: run.error }),
        ...(run?.problems === undefined || run.problems.count === 0 ? {} : { problems: run.problems }),
      })),
    );
    try {
      return await within(read, jobsMs, () => new StorageError('busy', `no answer within ${jobsMs} ms`));
    } catch (error) {
      if (error instanceof StorageError) return unknown;
      throw error;
    }
  }
}

function timeAs<const K extends string>(key: K, ms: number | undefined): { [key in K]?: string } {
  return ms === undefined ? {} : ({ [key]: new Date(ms).toISOString() } as { [key in K]?: string });
}

async function valueOf(gauge: Gauge): Promise<number> {
  return (await gauge.get()).values[0]?.value ?? 0;
}
