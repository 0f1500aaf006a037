import { waitFor } from '../async/wait.js';
import { StorageError } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';

/** Trouble is over when something succeeds so long after the last failure: a single bad file is no outage. */
const quietMs = 10_000;
/** The pause between two questions to a store that did not answer, in milliseconds. */
const askAgainMs = 2_000;
/** A client waits this long for the store to write, in milliseconds. A store may be silent, or copy a large object. */
const writeMs = 3_000;
const atOnce = AbortSignal.abort();

/**
 * What is tried with a store that may be in trouble. While there is an upstream to bring the content, that is as good
 * as a store that lacks it. An outage is two lines in the log, however many requests meet it.
 */
export class StoreTrouble {
  /** `undefined`: there is none. */
  #failedAt: number | undefined;
  #answeredAt = -Infinity;
  /** The store did not answer in time. Until it answers again, no request waits for it. */
  #isSilent = false;

  constructor(
    private readonly log: Pick<Logger, 'info' | 'warn' | 'debug'>,
    private readonly metrics: Pick<Metrics, 'storageFailures'>,
    /** A short question to the store, to learn whether it answers. */
    private readonly ask: () => Promise<unknown>,
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
    const began = this.now();
    try {
      if (this.#isSilent)
        throw new StorageError('silent', 'the store has not answered since an earlier request');
      const result = await work();
      this.#succeeded();
      return result;
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#failed(error);
      // Only one object may be silent: then other requests got answers meanwhile.
      if (error.code !== 'silent') this.#answeredAt = this.now();
      else if (!this.#isSilent && this.#answeredAt < began) void this.#untilItAnswers();
      failed?.(error);
      return undefined;
    }
  }

  /** The result of a write, or `undefined` if it takes longer than a client may wait. The work continues then. */
  async awaitWrite<T>(work: Promise<T>): Promise<T | undefined> {
    const late = this.#isSilent ? atOnce : AbortSignal.timeout(writeMs);
    try {
      return await waitFor(work, late);
    } catch (error) {
      if (!late.aborted) throw error;
      return undefined;
    }
  }

  /** Never rejects. */
  async #untilItAnswers(): Promise<void> {
    this.#isSilent = true;
    while (this.#isSilent) {
      await new Promise((resolve) => setTimeout(resolve, askAgainMs).unref());
      const answers = await this.ask().then(
        () => true,
        (error: unknown) => error instanceof StorageError && error.code !== 'silent',
      );
      if (answers) this.#isSilent = false;
    }
  }

  #failed(err: StorageError): void {
    this.metrics.storageFailures.inc();
    if (this.#failedAt === undefined) this.log.warn({ err }, 'the store is in trouble, going on without it');
    else this.log.debug({ err }, 'the store is still in trouble');
    this.#failedAt = this.now();
  }

  #succeeded(): void {
    this.#answeredAt = this.now();
    if (this.#failedAt === undefined || this.now() - this.#failedAt < quietMs) return;
    this.#failedAt = undefined;
    this.log.info({}, 'the store is used again');
  }
}
