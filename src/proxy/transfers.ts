import type { Digest } from '../oci/digest.js';
import type { BlobStore, RepositoryStore } from '../storage/storage.js';
import { DigestMismatch, StorageError, uploadsEarly, type EarlyUpload } from '../storage/storage.js';
import { Spool } from '../storage/spool.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { Transfer, transferResult, type Source } from './transfer.js';

export interface TransfersOptions {
  readonly blobs: BlobStore;
  readonly repositories: RepositoryStore;
  /** A path for a new spool file. */
  readonly newSpoolFile: (digest: Digest) => Promise<string>;
  /** Bytes that running spools may take together. */
  readonly maxSpoolBytes: number;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** The running transfers of this process: one for each digest, however many want it. */
export class Transfers {
  readonly #running = new Map<Digest, Promise<Transfer | undefined>>();
  #reserved = 0;
  #closing: Error | undefined;

  constructor(private readonly options: TransfersOptions) {}

  get(digest: Digest): Promise<Transfer | undefined> | undefined {
    return this.#running.get(digest);
  }

  /** The digest's transfer: the running one, or a new one from this source. `undefined`: it is stored by now. */
  start(digest: Digest, source: Source): Promise<Transfer | undefined> {
    const running = this.#running.get(digest);
    if (running !== undefined) return running;
    const transfer = this.#create(digest, source);
    this.#running.set(digest, transfer);
    transfer.then(
      (made) => made ?? this.#running.delete(digest),
      () => this.#running.delete(digest),
    );
    return transfer;
  }

  /** Settles when nothing runs any more. */
  async idle(signal: AbortSignal): Promise<void> {
    while (this.#running.size > 0 && !signal.aborted) {
      const aborted = Promise.withResolvers<void>();
      const abort = (): void => aborted.resolve();
      signal.addEventListener('abort', abort, { once: true });
      const ends = [...this.#running.values()].map(async (transfer) => (await transfer)?.finished);
      await Promise.race([Promise.allSettled(ends), aborted.promise]);
      signal.removeEventListener('abort', abort);
    }
  }

  /** Ends what still runs and takes nothing new. */
  async close(): Promise<void> {
    this.#closing = new StorageError('io', 'the mirror is shutting down');
    const closing = this.#closing;
    await Promise.allSettled(
      [...this.#running.values()].map(async (promise) => {
        const transfer = await promise;
        transfer?.abort(closing);
        await transfer?.finished;
      }),
    );
  }

  async #create(digest: Digest, source: Source): Promise<Transfer | undefined> {
    const { blobs, repositories, newSpoolFile, maxSpoolBytes, log, metrics } = this.options;
    if (this.#closing !== undefined) throw this.#closing;
    // Another transfer may have ended between the look into the store and now.
    if (await this.#isStored(digest)) return undefined;
    if (this.#reserved >= maxSpoolBytes) throw spoolFull(maxSpoolBytes);
    const spool = await Spool.create(digest, await newSpoolFile(digest));
    const started = performance.now();
    const upload = uploadsEarly(blobs) ? blobs.begin(digest, spool.path) : undefined;
    let reserved = 0;
    const transfer = new Transfer(digest, source, spool, {
      reserve: (size) => {
        if (this.#reserved + size > maxSpoolBytes) throw spoolFull(maxSpoolBytes);
        this.#reserved += size;
        reserved = size;
      },
      store: async (file, stored) => {
        await (upload?.complete(file) ?? blobs.take(file));
        await Promise.all(stored.map((repository) => repositories.linkLayer(repository, digest)));
        metrics.storageUploadBytes.inc(file.size);
      },
      grown: (bytes) => {
        metrics.proxyPulledBytes.inc({ type: 'blob' }, bytes);
        metrics.spoolBytes.inc(bytes);
        upload?.grown(spool.length, reserved || undefined);
      },
      resumed: (from, offset, err) => {
        metrics.transferResumes.inc({ upstream: from.upstream.host });
        log.warn(
          { upstream: from.upstream.host, repository: from.repository, digest, offset, err },
          'transfer broke, trying again',
        );
      },
      ended: () => {
        this.#running.delete(digest);
        this.#reserved -= reserved;
        metrics.transfersRunning.dec();
        metrics.spoolBytes.dec(spool.length);
      },
    });
    metrics.transfersRunning.inc();
    void this.#follow(transfer, source, started, upload);
    return transfer;
  }

  /** A store that cannot say so does not keep content from those who want it. */
  async #isStored(digest: Digest): Promise<boolean> {
    try {
      return (await this.options.blobs.stat(digest)) !== undefined;
    } catch (err) {
      if (!(err instanceof StorageError)) throw err;
      this.options.log.warn({ digest, err }, 'the store cannot be asked');
      return false;
    }
  }

  async #follow(
    transfer: Transfer,
    source: Source,
    started: number,
    upload: EarlyUpload | undefined,
  ): Promise<void> {
    const { log, metrics } = this.options;
    const upstream = source.upstream.host;
    const facts = { upstream, repository: source.repository, digest: transfer.digest };
    let failure: unknown;
    try {
      await transfer.finished;
      log.info(
        { ...facts, bytes: transfer.size, seconds: (performance.now() - started) / 1000 },
        'blob stored',
      );
    } catch (err) {
      failure = err;
      await upload?.abort();
      if (err instanceof DigestMismatch) metrics.mismatches.inc({ upstream, type: 'blob' });
      const result = transferResult(err);
      log[result === 'refused' ? 'info' : 'error']({ ...facts, result, err }, 'blob not stored');
    }
    metrics.transfers.inc({ upstream, result: transferResult(failure) });
  }
}

function spoolFull(limit: number): StorageError {
  return new StorageError(
    'full',
    `running transfers already take what proxy.spool.maxsize allows (${limit} bytes)`,
  );
}
