import { StorageError } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';

/** Trouble is over when something succeeds so long after the last failure: a single bad file is no outage. */
const quietMs = 10_000;

/**
 * What is tried with a store that may be in trouble. While there is an upstream to bring the content, that is as good
 * as a store that lacks it. An outage is two lines in the log, however many requests meet it.
 */
export class StoreTrouble {
  /** `undefined`: there is none. */
  #failedAt: number | undefined;

  constructor(
    private readonly log: Pick<Logger, 'info' | 'warn' | 'debug'>,
    private readonly metrics: Pick<Metrics, 'storageFailures'>,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Reads the store for a request. Throws StorageError only if there is no upstream to answer the request instead. */
  read<T>(
    route: Route,
    work: () => Promise<T>,
    failed?: (error: StorageError) => void,
  ): Promise<T | undefined> {
    return route.upstream === undefined ? work() : this.survive(work, failed);
  }

  /** Returns the work's result, or `undefined` if the work threw StorageError, which `failed` receives. */
  async survive<T>(work: () => Promise<T>, failed?: (error: StorageError) => void): Promise<T | undefined> {
    try {
      const result = await work();
      this.#succeeded();
      return result;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#failed(error);
      failed?.(error);
      return undefined;
    }
  }

  #failed(err: StorageError): void {
    this.metrics.storageFailures.inc();
    if (this.#failedAt === undefined) this.log.warn({ err }, 'the store is in trouble, going on without it');
    else this.log.debug({ err }, 'the store is still in trouble');
    this.#failedAt = this.now();
  }

  #succeeded(): void {
    if (this.#failedAt === undefined || this.now() - this.#failedAt < quietMs) return;
    this.#failedAt = undefined;
    this.log.info({}, 'the store is used again');
  }
}
