import type { RecordStore } from '../storage/storage.js';
import type { JobName, JobSummary, Problems, Progress } from './job.js';

/** What all replicas know of a job, in the storage. Times are milliseconds since 1970. */
export interface JobRecord {
  /** The last slot that somebody has begun, or that was past when the job was first seen. */
  readonly slotMs: number;
  readonly run: RecordedRun | undefined;
  /** The last one before it that was done. */
  readonly before?: RecordedRun | undefined;
}

export interface RecordedRun {
  /** Host name and a random part: one process. */
  readonly runner: string;
  /** `undefined`: somebody has asked for it by hand, so nobody goes on with it. */
  readonly slotMs: number | undefined;
  /** How many replicas have begun it before this one. */
  readonly attempt: number;
  readonly beganMs: number;
  /** When this was written. */
  readonly beatMs: number;
  /** `stopped`: its replica has left it to the others. */
  readonly outcome: 'running' | 'stopped' | 'done' | 'failed';
  readonly endedMs: number | undefined;
  readonly summary: JobSummary | undefined;
  /** Older versions wrote none. */
  readonly problems?: Problems | undefined;
  /** Why it failed. */
  readonly error: string | undefined;
  readonly checkpoint: string | undefined;
  readonly progress: Progress | undefined;
}

/** It has begun at a slot and not ended: somebody goes on with it. */
export function isUnfinished({ run }: JobRecord): boolean {
  return run?.slotMs !== undefined && (run.outcome === 'running' || run.outcome === 'stopped');
}

export function lastDone({ run, before }: JobRecord): RecordedRun | undefined {
  return run?.outcome === 'done' ? run : before;
}

const folder = 'jobs/';
const claims = 'job-claims/';

export class JobRecords {
  constructor(private readonly store: RecordStore) {}

  /** `undefined`: nobody has seen this job before. Throws StorageError. */
  async read(name: JobName): Promise<JobRecord | undefined> {
    const bytes = await this.store.readRecord(folder + name);
    return bytes === undefined ? undefined : parse(bytes);
  }

  async write(name: JobName, record: JobRecord): Promise<void> {
    await this.store.writeRecord(folder + name, encode(record));
  }

  /** What is there afterwards. */
  async create(name: JobName, record: JobRecord): Promise<JobRecord> {
    return parse(await this.store.createRecord(folder + name, encode(record)));
  }

  /**
   * Whether this runner, of all that try, may begin a run. Only the storage decides it: for replicas that have
   * nothing else in common.
   */
  async claim(name: JobName, run: Pick<RecordedRun, 'runner' | 'attempt'>, slotMs: number): Promise<boolean> {
    const key = `${claims}${name}/${slotMs}-${run.attempt}`;
    const own = Buffer.from(run.runner);
    return (await this.store.createRecord(key, own)).equals(own);
  }

  /** Forgets the claims to a run that the record tells of, and to those before. */
  async unclaim(name: JobName, slotMs: number): Promise<void> {
    const below = `${claims}${name}/`;
    for (const key of await this.store.listRecords(below)) {
      if (Number.parseInt(key.slice(below.length), 10) <= slotMs) await this.store.removeRecord(key);
    }
  }
}

function encode(record: JobRecord): Buffer {
  return Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`);
}

/** What nobody here has written is as good as a job that was never run. */
function parse(bytes: Buffer): JobRecord {
  try {
    const { slotMs, run, before } = (JSON.parse(bytes.toString('utf8')) ?? {}) as Partial<JobRecord>;
    if (isTime(slotMs)) return { slotMs, run: runOf(run), before: runOf(before) };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { slotMs: 0, run: undefined };
}

function runOf(value: Partial<RecordedRun> | null | undefined): RecordedRun | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { runner, slotMs, attempt, beganMs, beatMs, outcome, endedMs, problems } = value;
  const sound =
    typeof runner === 'string' &&
    isTime(attempt) &&
    [beganMs, beatMs].every(isTime) &&
    [slotMs, endedMs].every((time) => time === undefined || isTime(time)) &&
    (problems === undefined || (isTime(problems.count) && Array.isArray(problems.first))) &&
    ['running', 'stopped', 'done', 'failed'].includes(outcome ?? '');
  return sound ? (value as RecordedRun) : undefined;
}

/** Whether this is a time within the range of a Date (ECMA-262, "Time Values"). */
function isTime(value: unknown): value is number {
  return Number.isSafeInteger(value) && Math.abs(value as number) <= 8.64e15;
}
