import type { JobRun } from '../scheduler/job.js';
import { StorageError, type Inventory } from '../storage/storage.js';

/** After so many failures in a row the storage as a whole is looked at. */
const suspicious = 10;

/**
 * Lets a job go on past what the storage does not give or take, and reports it. Where the storage as a whole is away,
 * the job fails.
 */
export class Tolerance {
  #inARow = 0;

  constructor(
    private readonly inventory: Pick<Inventory, 'now'>,
    private readonly run: Pick<JobRun, 'problem'>,
  ) {}

  /** The result of the work, in an object; `undefined`: the storage failed, which is reported. */
  async attempt<T>(subject: string, work: () => Promise<T>): Promise<{ readonly value: T } | undefined> {
    try {
      const value = await work();
      this.#inARow = 0;
      return { value };
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      await this.report(subject, error);
      return undefined;
    }
  }

  /** Throws StorageError where the storage as a whole is away. */
  async report(subject: string, { message }: Error): Promise<void> {
    this.#inARow += 1;
    this.run.problem({ subject, message });
    if (this.#inARow % suspicious === 0) await this.inventory.now();
  }
}
