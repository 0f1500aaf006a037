import type { Cluster } from '../cluster/cluster.js';
import type { Schedule } from '../config/schedule.js';
import type { RecordStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { ActiveRun, type ActiveRunParts, type RunWatcher } from './active-run.js';
import type { Job, JobName, JobSummary } from './job.js';
import { JobBusy, LeaseLost, Stopping } from './faults.js';
import { JobLeases, type HeldLease } from './leases.js';
import { pause, settled } from '../async/wait.js';
import { isUnfinished, JobRecords, lastDone, type JobRecord, type RecordedRun } from './records.js';
import { Rounds, type ToRun } from './rounds.js';
import { ScheduledRun, type Ending } from './scheduled-run.js';
import { latestSlot, nextSlot } from './slots.js';

/** After trouble with the storage. */
const againMs = 10_000;
/** Redis' memory counts from the first time that somebody asks, and is kept while somebody does. */
const memoryEveryMs = 10_000;
/** While Redis is away, and before the first connection. */
const awayMs = 1_000;

/** These look through all content and remove some of it: one of them at a time. */
const contentJobs: ReadonlySet<JobName> = new Set<JobName>(['expire', 'evict', 'reindex', 'sweep']);

export interface SchedulerParts {
  readonly records: RecordStore;
  readonly cluster: Pick<Cluster, 'coordinator' | 'memoryMs'>;
  readonly schedules: Readonly<Record<JobName, Schedule>>;
  /** A Redis is configured: without it nobody knows who does what. */
  readonly shared: boolean;
  readonly mayDelete: () => Promise<boolean>;
  /** Names this process among all replicas, also after a restart. */
  readonly runner: string;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** A job as every replica shows it. */
export interface JobState {
  readonly name: JobName;
  readonly schedule: Schedule;
  /** In milliseconds since 1970; `undefined`: never. */
  readonly nextMs: number | undefined;
  /** The last one, or the one that is going on. */
  readonly run: RecordedRun | undefined;
}

type Ended =
  | { readonly facts: Ending & { readonly outcome: 'done'; readonly summary: JobSummary } }
  | { readonly facts: Ending & { readonly outcome: 'stopped' | 'failed' }; readonly cause: unknown };

export interface RunOptions extends RunWatcher {
  /** Instead of the registered job of this name. */
  readonly job?: Job;
  readonly dryRun?: boolean;
  readonly signal: AbortSignal;
}

/** Runs jobs when their time has come: each by one replica at a time, and once for all of them. */
export class Scheduler {
  readonly #parts: SchedulerParts;
  readonly #records: JobRecords;
  readonly #leases: JobLeases;
  readonly #jobs = new Map<JobName, Job>();
  readonly #stopping = new AbortController();
  readonly #active = new Map<JobName, ActiveRun>();
  readonly #work = new Set<Promise<unknown>>();
  #started = false;
  #redisMissed = false;
  #totalsMs = 0;

  constructor(parts: SchedulerParts) {
    this.#parts = parts;
    this.#records = new JobRecords(parts.records);
    this.#leases = new JobLeases(parts.cluster);
  }

  /** Before {@link start}. */
  register(job: Job): void {
    this.#jobs.set(job.name, job);
    this.#parts.metrics.expectJob(job.name);
  }

  registered(name: JobName): Job | undefined {
    return this.#jobs.get(name);
  }

  /** Once the storage is ready and the cluster is joined. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    for (const job of this.#jobs.values()) {
      if (this.#parts.schedules[job.name].kind !== 'never') void this.#track(this.#tend(job));
    }
    void this.#track(this.#keepMemory());
  }

  /** Leaves what is being done to other replicas. Resolves when nothing is, or when the signal is aborted. */
  async stop(signal: AbortSignal): Promise<void> {
    this.#stopping.abort(new Stopping());
    await settled(this.#work, signal);
  }

  /** Throws StorageError. */
  async jobs(): Promise<JobState[]> {
    const states = [...this.#jobs.keys()].map(async (name): Promise<JobState> => {
      const schedule = this.#parts.schedules[name];
      const run = (await this.#records.read(name))?.run;
      const progress = this.#active.get(name)?.latestProgress;
      return {
        name,
        schedule,
        nextMs: nextSlot(schedule, Date.now()),
        run: run === undefined || progress === undefined ? run : { ...run, progress },
      };
    });
    return Promise.all(states);
  }

  /**
   * Does a job for somebody who has asked for it, whatever its schedule. Throws {@link JobBusy}, the signal's reason,
   * and what the job throws.
   */
  runNow(name: JobName, options: RunOptions): Promise<JobSummary> {
    return this.#track(this.#runNow(name, options));
  }

  async #runNow(name: JobName, options: RunOptions): Promise<JobSummary> {
    const { job = this.#jobs.get(name), dryRun = false, onProgress, onProblem, onRemoved } = options;
    if (job === undefined) throw new RangeError(`no job is registered as ${name}`);
    const lease = await this.#leases.take(name);
    if (lease === undefined) throw new JobBusy(name, await this.#runnerOf(name));
    await using held = lease;
    const asked = AbortSignal.any([options.signal, this.#stopping.signal]);
    const waiting = { doing: 'waiting for other jobs', done: 0, total: undefined };
    await using turn = await this.#turn(name, held, asked, () => onProgress?.(waiting));
    const run = this.#newRun(name, [held, turn], asked, { dryRun, onProgress, onProblem, onRemoved });
    const beganMs = Date.now();
    const ending = await this.#perform(job, run);
    if (!dryRun)
      await this.#remember(name, {
        ...newRecord(this.#parts.runner, beganMs),
        ...ending.facts,
        problems: run.problems,
      });
    if ('cause' in ending) throw ending.cause;
    return ending.facts.summary;
  }

  /** One job for as long as this process runs. */
  async #tend(job: Job): Promise<void> {
    const { name } = job;
    const { runner, shared, schedules, log } = this.#parts;
    const { signal } = this.#stopping;
    const rounds = new Rounds({
      name,
      runner,
      shared,
      log,
      schedule: schedules[name],
      records: this.#records,
      leases: this.#leases,
      show: (record) => this.#show(name, record),
      waitsForRedis: (waits) => this.#missRedis(waits),
      perform: (toRun, lease) => this.#runScheduled(job, toRun, lease),
    });
    while (!signal.aborted) {
      let sleepMs = againMs;
      try {
        sleepMs = await rounds.look(signal);
      } catch (err) {
        const expected = signal.aborted || err instanceof LeaseLost;
        if (!expected) log.error({ err, job: name }, 'a job cannot be looked after');
      }
      await pause(sleepMs, signal);
    }
  }

  async #runScheduled(job: Job, { slotMs, attempt, left, before }: ToRun, lease: HeldLease): Promise<void> {
    const { name } = job;
    const { runner, log, metrics, shared } = this.#parts;
    const { signal } = this.#stopping;
    await using turn = await this.#turn(name, lease, signal);
    if (shared && turn?.scope === 'process') return; // Redis has gone while it waited
    const checkpoint = left?.checkpoint;
    const begun = newRecord(runner, left?.beganMs ?? Date.now());
    const first = { ...begun, slotMs, attempt, checkpoint };
    const recorded = new ScheduledRun(name, this.#records, first, before, log);
    const save = (): Promise<void> => recorded.save(run);
    const run = this.#newRun(name, [lease, turn], signal, { checkpoint, save });
    await recorded.begin(run);
    const { facts } = await this.#perform(job, run);
    metrics.jobRuns.inc({ name, outcome: facts.outcome });
    if (run.signal.reason instanceof LeaseLost) recorded.leave();
    else this.#show(name, await recorded.end(run, facts));
  }

  /** Jobs of the content have one turn for all of them. Throws the signal's reason, LeaseLost and StorageError. */
  async #turn(
    name: JobName,
    lease: HeldLease,
    signal: AbortSignal,
    onWait?: () => void,
  ): Promise<HeldLease | undefined> {
    if (!contentJobs.has(name)) return undefined;
    const givesWay = (): Promise<boolean> => this.#givesWay(name);
    return this.#leases.turn('content', AbortSignal.any([signal, lease.lost]), { givesWay, onWait });
  }

  /** To a job that waits for its turn and was done longer ago: one that takes longer than its interval is always due. */
  async #givesWay(name: JobName): Promise<boolean> {
    const others = [...contentJobs].filter((other) => other !== name && this.#jobs.has(other));
    const held = await Promise.all(others.map((other) => this.#leases.isHeld(other)));
    const waiting = others.filter((_, index) => held[index]);
    if (waiting.length === 0) return false;
    const [own = 0, ...theirs] = await Promise.all([name, ...waiting].map((job) => this.#endedMs(job)));
    return theirs.some((ended) => ended < own);
  }

  /** When a job was last done, or tried; 0: never. */
  async #endedMs(name: JobName): Promise<number> {
    return (await this.#records.read(name))?.run?.endedMs ?? 0;
  }

  #newRun(
    name: JobName,
    held: readonly (HeldLease | undefined)[],
    asked: AbortSignal,
    more: Partial<ActiveRunParts>,
  ): ActiveRun {
    const { mayDelete, log, metrics } = this.#parts;
    const leases = held.filter((lease) => lease !== undefined);
    const signal = AbortSignal.any([asked, ...leases.map(({ lost }) => lost)]);
    return new ActiveRun({ name, leases, signal, mayDelete, log, metrics, ...more });
  }

  async #perform(job: Job, run: ActiveRun): Promise<Ended> {
    this.#active.set(job.name, run);
    try {
      return { facts: { outcome: 'done', summary: await run.perform(job), error: undefined } };
    } catch (cause) {
      const outcome = run.signal.aborted ? 'stopped' : 'failed';
      const error = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
      return { facts: { outcome, summary: undefined, error }, cause };
    } finally {
      this.#active.delete(job.name);
    }
  }

  /** The record of a run that somebody has asked for, unless one is to be gone on with. */
  async #remember(name: JobName, run: RecordedRun): Promise<void> {
    const record = await this.#records.read(name);
    if (record !== undefined && isUnfinished(record)) return;
    const slotMs = record?.slotMs ?? latestSlot(this.#parts.schedules[name], Date.now()) ?? 0;
    const ended = { slotMs, run: { ...run, endedMs: Date.now() }, before: record && lastDone(record) };
    await this.#records.write(name, ended);
    this.#show(name, ended);
  }

  async #runnerOf(name: JobName): Promise<string | undefined> {
    const run = (await this.#records.read(name))?.run;
    return run?.outcome === 'running' ? run.runner : undefined;
  }

  #show(name: JobName, record: JobRecord): void {
    const { metrics, schedules } = this.#parts;
    const nextMs = nextSlot(schedules[name], Date.now());
    if (nextMs !== undefined) metrics.jobNextRun.set({ name }, nextMs / 1000);
    const done = lastDone(record);
    if (done?.endedMs === undefined) return;
    metrics.jobLastRun.set({ name }, done.endedMs / 1000);
    metrics.jobDuration.set({ name }, (done.endedMs - done.beganMs) / 1000);
    metrics.jobProblems.set({ name }, done.problems?.count ?? 0);
    this.#showTotals(done.endedMs, done.summary ?? {});
  }

  /** What another replica counted holds here too: each shows what was found last. */
  #showTotals(endedMs: number, { storedBlobs, storedBytes }: JobSummary): void {
    if (storedBlobs === undefined || storedBytes === undefined || endedMs < this.#totalsMs) return;
    this.#totalsMs = endedMs;
    this.#parts.metrics.storedBlobs.set(storedBlobs);
    this.#parts.metrics.storedBytes.set(storedBytes);
  }

  #missRedis(missed: boolean): void {
    const { log } = this.#parts;
    if (missed && !this.#redisMissed) log.info('jobs wait for redis'); // the outage itself has had its warning
    if (!missed && this.#redisMissed) log.info('jobs go on');
    this.#redisMissed = missed;
  }

  async #keepMemory(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const memoryMs = await this.#parts.cluster.memoryMs();
      if (memoryMs !== undefined && memoryMs !== Infinity) await this.#tellRedisAgain(memoryMs);
      await pause(memoryMs === undefined ? awayMs : memoryEveryMs, signal);
    }
  }

  /** What Redis lost, or never had, is told to it again: once for all replicas, as the job's record says. */
  async #tellRedisAgain(memoryMs: number): Promise<void> {
    const { schedules, log } = this.#parts;
    if (!this.#jobs.has('reindex') || schedules.reindex.kind === 'never') return;
    try {
      const run = (await this.#records.read('reindex'))?.run;
      if (run !== undefined && run.outcome !== 'failed' && run.beganMs >= Date.now() - memoryMs) return;
      await this.#runNow('reindex', { signal: this.#stopping.signal });
    } catch (err) {
      if (this.#stopping.signal.aborted || err instanceof JobBusy) return;
      log.warn({ err }, 'redis could not be told again what is stored');
    }
  }

  #track<T>(work: Promise<T>): Promise<T> {
    const settling = work.then(
      () => undefined,
      () => undefined, // whoever asked for it is told
    );
    this.#work.add(settling);
    void settling.then(() => this.#work.delete(settling));
    return work;
  }
}

function newRecord(runner: string, beganMs: number): RecordedRun {
  return {
    runner,
    slotMs: undefined,
    attempt: 0,
    beganMs,
    beatMs: Date.now(),
    outcome: 'running',
    endedMs: undefined,
    summary: undefined,
    error: undefined,
    checkpoint: undefined,
    progress: undefined,
  };
}
