import { loopTurn } from '../async/loop-turn.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Job, JobName, JobRun, JobSummary, Problem, Problems, Progress, Removal } from './job.js';
import type { HeldLease } from './leases.js';

/** Where another replica would go on is saved this often at most. */
const saveMs = 1_000;
/** Steps that together take longer than this let other work run. */
const stretchMs = 10;
/** The first problems of a run are logged as warnings and kept in its record; all are counted. */
const mostProblems = 10;

/** Whoever looks on. */
export interface RunWatcher {
  readonly onProgress?: ((progress: Progress) => void) | undefined;
  readonly onProblem?: ((problem: Problem) => void) | undefined;
  readonly onRemoved?: ((removal: Removal) => void) | undefined;
}

export interface ActiveRunParts extends RunWatcher {
  readonly name: JobName;
  /** `undefined`: from the beginning. */
  readonly checkpoint?: string | undefined;
  readonly dryRun?: boolean;
  readonly signal: AbortSignal;
  readonly leases: readonly HeldLease[];
  readonly mayDelete: () => Promise<boolean>;
  /** `undefined`: nobody would go on with it. */
  readonly save?: () => Promise<void>;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** One replica's work on a run. */
export class ActiveRun implements JobRun {
  readonly #parts: ActiveRunParts;
  readonly checkpoint: string | undefined;
  #latest: string | undefined;
  #progress: Progress | undefined;
  #problems: Problems = { count: 0, first: [] };
  #savedAt = performance.now();
  #stretchBegan = performance.now();

  constructor(parts: ActiveRunParts) {
    this.#parts = parts;
    this.checkpoint = parts.checkpoint;
    this.#latest = parts.checkpoint;
  }

  /** Where another replica would go on. */
  get latestCheckpoint(): string | undefined {
    return this.#latest;
  }

  get latestProgress(): Progress | undefined {
    return this.#progress;
  }

  get problems(): Problems {
    return this.#problems;
  }

  get dryRun(): boolean {
    return this.#parts.dryRun === true;
  }

  get signal(): AbortSignal {
    return this.#parts.signal;
  }

  /** Does the job, and says so. Throws what it threw. */
  async perform(job: Job): Promise<JobSummary> {
    const { name, log, metrics } = this.#parts;
    const { dryRun } = this;
    const began = performance.now();
    log.debug({ job: name, dryRun, resumed: this.checkpoint !== undefined }, 'job begins');
    metrics.jobRunning.set({ name }, 1);
    try {
      const summary = await job.run(this);
      const ms = Math.round(performance.now() - began);
      log[dryRun ? 'debug' : 'info']({ job: name, ms, summary }, 'job done');
      return summary;
    } catch (err) {
      if (this.signal.aborted) log.info({ job: name, err: this.signal.reason }, 'job stopped');
      else log.error({ job: name, err }, 'job failed');
      throw err;
    } finally {
      metrics.jobRunning.set({ name }, 0);
    }
  }

  async step(checkpoint?: string): Promise<void> {
    this.#latest = checkpoint ?? this.#latest;
    if (performance.now() - this.#stretchBegan > stretchMs) {
      await loopTurn();
      this.#stretchBegan = performance.now();
    }
    for (const lease of this.#parts.leases) await lease.confirm();
    this.signal.throwIfAborted();
    const { save } = this.#parts;
    if (save === undefined || performance.now() - this.#savedAt < saveMs) return;
    await save();
    this.#savedAt = performance.now();
  }

  mayDelete(): Promise<boolean> {
    return this.#parts.mayDelete();
  }

  progress(progress: Progress): void {
    this.#progress = progress;
    this.#parts.onProgress?.(progress);
  }

  problem(problem: Problem): void {
    const { name, log, onProblem } = this.#parts;
    const { count, first } = this.#problems;
    this.#problems = { count: count + 1, first: count < mostProblems ? [...first, problem] : first };
    log[count < mostProblems ? 'warn' : 'debug'](
      { job: name, ...problem },
      'a job met a problem and continues',
    );
    onProblem?.(problem);
  }

  removed(removal: Removal): void {
    const { name, log, metrics } = this.#parts;
    this.#parts.onRemoved?.(removal);
    if (this.dryRun) return;
    const { what, why, bytes } = removal;
    log[why === 'rotten' ? 'warn' : 'debug']({ job: name, ...removal }, 'removed');
    metrics.removed.inc({ what, why });
    metrics.removedBytes.inc({ why }, bytes);
  }
}
