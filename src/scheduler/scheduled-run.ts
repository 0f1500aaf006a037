import type { Logger } from '../telemetry/log.js';
import type { ActiveRun } from './active-run.js';
import type { JobName } from './job.js';
import type { JobRecord, JobRecords, RecordedRun } from './records.js';

/** How often a run that takes long says that it is alive. */
const beatMs = 10_000;

export type Ending = Pick<RecordedRun, 'outcome' | 'summary' | 'error'>;

/** The record of a run while it is going on: written by this replica alone, one version after the other. */
export class ScheduledRun {
  #writing: Promise<void> = Promise.resolve();
  #beating: NodeJS.Timeout | undefined;
  #over = false;

  constructor(
    private readonly name: JobName,
    private readonly records: JobRecords,
    private readonly first: RecordedRun & { readonly slotMs: number },
    private readonly before: RecordedRun | undefined,
    private readonly log: Logger,
  ) {}

  /** From now on everybody can see it. Throws StorageError. */
  async begin(run: ActiveRun): Promise<void> {
    await this.save(run);
    this.#beating = setInterval(() => {
      this.save(run).catch((err: unknown) =>
        this.log.warn({ err, job: this.name }, 'the state of a job cannot be written'),
      );
    }, beatMs).unref();
  }

  save(run: ActiveRun): Promise<void> {
    return this.#write(run, { outcome: 'running', summary: undefined, error: undefined });
  }

  /** Writes its end, and returns that. Throws StorageError. */
  async end(run: ActiveRun, ending: Ending): Promise<JobRecord> {
    this.leave();
    await this.#writing.catch(() => undefined); // told to whoever waited for it
    const record = this.#record(run, ending);
    await this.records.write(this.name, record);
    return record;
  }

  /** Another replica writes it now. */
  leave(): void {
    this.#over = true;
    clearInterval(this.#beating);
  }

  #write(run: ActiveRun, ending: Ending): Promise<void> {
    const next = this.#writing
      .catch(() => undefined)
      .then(() => (this.#over ? undefined : this.records.write(this.name, this.#record(run, ending))));
    this.#writing = next;
    return next;
  }

  #record(run: ActiveRun, ending: Ending): JobRecord {
    const now = Date.now();
    const over = ending.outcome === 'done' || ending.outcome === 'failed';
    return {
      slotMs: this.first.slotMs,
      run: {
        ...this.first,
        ...ending,
        problems: run.problems,
        beatMs: now,
        endedMs: over ? now : undefined,
        checkpoint: over ? undefined : run.latestCheckpoint,
        progress: over ? undefined : run.latestProgress,
      },
      before: this.before,
    };
  }
}
