import type { Schedule } from '../config/schedule.js';
import type { Logger } from '../telemetry/log.js';
import type { JobName } from './job.js';
import type { HeldLease, JobLeases } from './leases.js';
import { pause } from '../async/wait.js';
import { isUnfinished, lastDone, type JobRecord, type JobRecords, type RecordedRun } from './records.js';
import { latestSlot, nextSlot } from './slots.js';

/** Clocks are set, and others end what they do: nobody sleeps longer. */
const longestSleepMs = 60_000;
/** How soon somebody goes on with a run whose replica is gone. */
const watchMs = 1_000;
/** The same where only the storage tells, and how long a run must have been silent then. */
const watchRecordMs = 5_000;
const silenceMs = 35_000;
/** A holder that still lives notices within this time that its lease was taken. */
const handoverMs = 2_500;

/** A run to begin, or to go on with. */
export interface ToRun {
  readonly slotMs: number;
  readonly attempt: number;
  /** What an earlier replica has left. */
  readonly left: RecordedRun | undefined;
  /** The last one before it that was done. */
  readonly before: RecordedRun | undefined;
}

export interface RoundsParts {
  readonly name: JobName;
  readonly schedule: Schedule;
  readonly records: JobRecords;
  readonly leases: JobLeases;
  /** This process. */
  readonly runner: string;
  /** There is a Redis, so without it nobody knows who does what. */
  readonly shared: boolean;
  readonly log: Logger;
  readonly show: (record: JobRecord) => void;
  /** Told at each try whether Redis is missed. */
  readonly waitsForRedis: (waits: boolean) => void;
  /** Throws StorageError. */
  readonly perform: (toRun: ToRun, lease: HeldLease) => Promise<void>;
}

/** One job's rounds on one replica: when its time has come, it is done here or seen to be done elsewhere. */
export class Rounds {
  readonly #parts: RoundsParts;
  #busyElsewhere = false;
  /** By `performance.now()`. */
  #readMs = -Infinity;
  /** A run of another process, and since when (by `performance.now()`) it has said nothing. */
  #silent: { readonly beat: string; readonly sinceMs: number } | undefined;

  constructor(parts: RoundsParts) {
    this.#parts = parts;
  }

  /** Looks once. Returns how long to sleep, in milliseconds. Throws StorageError. */
  async look(signal: AbortSignal): Promise<number> {
    const { name, leases } = this.#parts;
    // Who is always busy has ended something meanwhile, and that is shown here too.
    const fresh = performance.now() - this.#readMs < watchRecordMs;
    if (this.#busyElsewhere && fresh && (await leases.heldElsewhere(name))) return watchMs;
    this.#busyElsewhere = false;
    if (this.#due(await this.#read()) === undefined) return this.#untilNext();
    const lease = await leases.take(name);
    if (lease === undefined) {
      this.#busyElsewhere = true;
      return watchMs;
    }
    await using held = lease;
    const away = held.scope === 'process' && this.#parts.shared;
    this.#parts.waitsForRedis(away);
    return away ? watchRecordMs : await this.#lead(held, signal);
  }

  async #read(): Promise<JobRecord> {
    const { name, records, schedule, show } = this.#parts;
    const record =
      (await records.read(name)) ??
      (await records.create(name, { slotMs: latestSlot(schedule, Date.now()) ?? 0, run: undefined }));
    this.#readMs = performance.now();
    show(record);
    return record;
  }

  /** With the lease: nobody else does it, or nobody could be asked. */
  async #lead(lease: HeldLease, signal: AbortSignal): Promise<number> {
    const { name, records, runner, perform, log } = this.#parts;
    const alone = lease.scope === 'process';
    // Somebody may have begun, or ended, since this one has looked.
    let record = await this.#read();
    if (runsElsewhere(record, runner)) {
      if (alone && !this.#isSilent(record)) return watchRecordMs;
      if (!alone) await pause(handoverMs, signal);
      if (signal.aborted) return 0;
      record = await this.#read();
    }
    const due = this.#due(record);
    if (due === undefined) return this.#untilNext();
    if (alone && !(await records.claim(name, { ...due, runner }, due.slotMs))) return watchRecordMs;
    // Whoever had claimed it before may have ended meanwhile.
    if (alone && this.#due(await this.#read())?.attempt !== due.attempt) {
      await records.unclaim(name, due.slotMs);
      return watchRecordMs;
    }
    if (due.attempt > 0) log.info({ job: name, attempt: due.attempt }, 'going on with a job that was left');
    await perform(due, lease);
    if (alone) await records.unclaim(name, due.slotMs);
    return 0;
  }

  /** What is to be done now. */
  #due(record: JobRecord): ToRun | undefined {
    const now = Date.now();
    const { schedule } = this.#parts;
    const { slotMs, run } = record;
    const before = lastDone(record);
    if (run?.slotMs !== undefined && isUnfinished(record)) {
      return { slotMs: run.slotMs, attempt: run.attempt + 1, left: run, before };
    }
    const latest = latestSlot(schedule, now);
    const next = nextSlot(schedule, now);
    if (latest === undefined || next === undefined) return undefined;
    // Further ahead than the next slot: of a clock that was wrong.
    const last = slotMs > next ? 0 : slotMs;
    if (latest <= last) return undefined;
    return { slotMs: latest, attempt: 0, left: undefined, before };
  }

  #isSilent({ run }: JobRecord): boolean {
    const beat = `${run?.runner} ${run?.beatMs}`;
    if (this.#silent?.beat !== beat) this.#silent = { beat, sinceMs: performance.now() };
    return performance.now() - this.#silent.sinceMs > silenceMs;
  }

  #untilNext(): number {
    const now = Date.now();
    const next = nextSlot(this.#parts.schedule, now);
    return Math.min(next === undefined ? longestSleepMs : next - now, longestSleepMs);
  }
}

function runsElsewhere(record: JobRecord, runner: string): boolean {
  return isUnfinished(record) && record.run?.outcome === 'running' && record.run.runner !== runner;
}
