import type { Coordinator } from '../../src/cluster/cluster.js';
import type { Schedule } from '../../src/config/schedule.js';
import type { Job, JobName, JobRun, JobSummary } from '../../src/scheduler/job.js';
import { Scheduler } from '../../src/scheduler/scheduler.js';
import type { RecordStore } from '../../src/storage/storage.js';
import { createLogger } from '../../src/telemetry/log.js';
import { Metrics } from '../../src/telemetry/metrics.js';

export interface JobReplicaOptions {
  readonly runner: string;
  readonly records: RecordStore;
  /** Of a replica that lives for as long as it is told. */
  readonly coordinator: (lives: () => boolean) => Coordinator;
  readonly shared: boolean;
  readonly schedules?: Partial<Record<JobName, Schedule>>;
  /** How long each look into the storage takes, once on its way there and once back. */
  readonly latencyMs?: () => number;
}

/** A scheduler alone, as one replica has it. */
export class JobReplica {
  readonly runner: string;
  readonly scheduler: Scheduler;
  readonly metrics = new Metrics();
  readonly #lines: string[] = [];
  #dead = false;

  constructor({ runner, records, coordinator, shared, schedules, latencyMs }: JobReplicaOptions) {
    this.runner = runner;
    const never = { kind: 'never' } as const;
    this.scheduler = new Scheduler({
      records: this.#mortal(records, latencyMs),
      cluster: {
        coordinator: coordinator(() => !this.#dead),
        memoryMs: () => Promise.resolve(Number.POSITIVE_INFINITY),
      },
      schedules: {
        expire: never,
        evict: never,
        reindex: never,
        sweep: never,
        scrub: never,
        prewarm: never,
        ...schedules,
      },
      shared,
      mayDelete: () => Promise.resolve(true),
      runner,
      log: createLogger(
        { level: 'info', formatter: 'json', fields: {} },
        { write: (line) => void this.#lines.push(line) },
      ),
      metrics: this.metrics,
    });
  }

  /** Registers the job, and starts. */
  does(...jobs: readonly Job[]): this {
    for (const job of jobs) this.scheduler.register(job);
    this.scheduler.start();
    return this;
  }

  /** Messages at `info` and above. */
  said(): string[] {
    return this.#records().map(({ msg }) => msg);
  }

  /** Messages above `info`. */
  warned(): string[] {
    return this.#records()
      .filter(({ level }) => level !== 'info')
      .map(({ msg }) => msg);
  }

  #records(): { level: string; msg: string }[] {
    return this.#lines.map((line) => JSON.parse(line) as { level: string; msg: string });
  }

  async runs(job: JobName, outcome: string): Promise<number> {
    const { values } = await this.metrics.jobRuns.get();
    return values.find(({ labels }) => labels.name === job && labels.outcome === outcome)?.value ?? 0;
  }

  /** As by SIGKILL: nothing that it does reaches the storage any more. */
  die(): void {
    this.#dead = true;
  }

  get dead(): boolean {
    return this.#dead;
  }

  stop(): Promise<void> {
    return this.scheduler.stop(AbortSignal.timeout(10_000));
  }

  #mortal(records: RecordStore, latencyMs: (() => number) | undefined): RecordStore {
    const travel = async (): Promise<void> => {
      if (latencyMs !== undefined) await new Promise((resolve) => setTimeout(resolve, latencyMs()));
      if (this.#dead) await Promise.withResolvers<never>().promise;
    };
    return new Proxy(records, {
      get: (target, name: keyof RecordStore) => {
        const method = target[name].bind(target) as (...given: unknown[]) => Promise<unknown>;
        return async (...given: unknown[]) => {
          await travel();
          const answer = await method(...given);
          await travel();
          return answer;
        };
      },
    });
  }
}

/** What jobs of a test have done, all replicas together. */
export class Ledger {
  /** Runs that have begun and ended, in this order. */
  readonly events: { readonly runner: string; readonly job: JobName; readonly what: 'begin' | 'end' }[] = [];
  readonly steps: { readonly runner: string; readonly step: number }[] = [];

  /** The most that ran at the same time. */
  get most(): number {
    let now = 0;
    let most = 0;
    for (const { what } of this.events) {
      now += what === 'begin' ? 1 : -1;
      most = Math.max(most, now);
    }
    return most;
  }

  /** Of one job, or of all. */
  count(what: 'begin' | 'end', job?: JobName): number {
    return this.events.filter((event) => event.what === what && (job === undefined || event.job === job))
      .length;
  }

  /** A job in numbered steps, each of which takes some time. */
  job(name: JobName, replica: () => JobReplica, runner: string, count: number, stepMs: number): Job {
    return {
      name,
      run: async (run: JobRun): Promise<JobSummary> => {
        this.events.push({ runner, job: name, what: 'begin' });
        try {
          for (let step = Number(run.checkpoint ?? 0); step < count; step += 1) {
            await new Promise((resolve) => setTimeout(resolve, stepMs));
            if (replica().dead) await Promise.withResolvers<never>().promise;
            this.steps.push({ runner, step });
            run.progress({ doing: 'steps', done: step + 1, total: count });
            await run.step(String(step + 1));
          }
          return { steps: count };
        } finally {
          this.events.push({ runner, job: name, what: 'end' });
        }
      },
    };
  }
}
