import { randomBytes } from 'node:crypto';
import { settled } from '../async/wait.js';
import type { Cluster } from '../cluster/cluster.js';
import { Neighbours } from '../cluster/peers/neighbours.js';
import type { PeerSpool } from '../cluster/peers/peer-server.js';
import type { Digest } from '../oci/digest.js';
import { DigestMismatch, StorageError, uploadsEarly } from '../storage/storage.js';
import { Spool } from '../storage/spool.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { TraceSpan, Tracing } from '../telemetry/tracing.js';
import { ClusterFiller } from './cluster-filler.js';
import { isUsable, type Filler, type Source, type Unusable } from './filler.js';
import type { LeadOptions } from './lead.js';
import { LocalFiller, type Shelf } from './local-filler.js';
import type { StoreTrouble } from './store-trouble.js';
import { Transfer, transferResult } from './transfer.js';

/** Other replicas may read a spool for so long after its blob is stored. */
const lingerMs = 60_000;
const mostLingering = 32;
/** Transfers whose spool is full that go on for their readers alone. */
const mostPassing = 16;

export interface TransfersOptions {
  readonly shelf: Shelf;
  readonly cluster: Cluster;
  /** A path for a new spool file. */
  readonly newSpoolFile: (digest: Digest) => Promise<string>;
  /** Bytes that their folder has room for. */
  readonly freeSpoolBytes: () => Promise<number | undefined>;
  /** Bytes that running spools may take together. */
  readonly maxSpoolBytes: number;
  /** `proxy.maxtransfers` and `proxy.maxblobsize`. */
  readonly maxTransfers: number;
  readonly maxBlobBytes: number;
  readonly trouble: StoreTrouble;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly tracing: Tracing | undefined;
}

/** The running transfers of this process: one for each digest, however many want it. */
export class Transfers {
  readonly #running = new Map<Digest, Promise<Transfer | undefined>>();
  readonly #attempts = new Map<string, Transfer>();
  /** Spools that are held open for other replicas, by attempt, oldest first. */
  readonly #lingering = new Map<string, { readonly spool: Spool; readonly timer: NodeJS.Timeout }>();
  readonly #neighbours: Neighbours;
  #reserved = 0;
  /** Of that, what is not in the files yet. */
  #unwritten = 0;
  #passing = 0;
  #closing: Error | undefined;

  constructor(private readonly options: TransfersOptions) {
    this.#neighbours = new Neighbours(options.log);
  }

  get(digest: Digest): Promise<Transfer | undefined> | undefined {
    return this.#running.get(digest);
  }

  /**
   * The digest's transfer: the running one, or a new one from this source. `undefined` if the store has the blob by now
   * and it is usable.
   */
  start(digest: Digest, source: Source, unusable?: Unusable): Promise<Transfer | undefined> {
    const running = this.#running.get(digest);
    if (running !== undefined) return running;
    if (this.#running.size >= this.options.maxTransfers) {
      const reason = `as many transfers are running as proxy.maxtransfers allows (${this.#running.size})`;
      return Promise.reject(new StorageError('busy', reason));
    }
    const transfer = this.#createTraced(digest, source, unusable);
    this.#running.set(digest, transfer);
    transfer.then(
      (made) => made ?? this.#running.delete(digest),
      () => this.#running.delete(digest),
    );
    return transfer;
  }

  /** Those on their way now. */
  running(): readonly Pick<Transfer, 'digest' | 'length' | 'size'>[] {
    return [...this.#attempts].flatMap(([attempt, transfer]) =>
      this.#lingering.has(attempt) ? [] : [transfer],
    );
  }

  /** A spool of this process that another replica asks for, held open until it is released. */
  peerSpool(attempt: string): PeerSpool | undefined {
    return this.#attempts.get(attempt)?.peerSpool();
  }

  /** Settles when nothing runs any more. */
  async idle(signal: AbortSignal): Promise<void> {
    while (this.#running.size > 0 && !signal.aborted) {
      const ends = [...this.#running.values()].map(async (transfer) => (await transfer)?.finished);
      await settled(ends, signal);
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
    for (const attempt of this.#lingering.keys()) this.#forget(attempt);
  }

  #createTraced(
    digest: Digest,
    source: Source,
    unusable: Unusable | undefined,
  ): Promise<Transfer | undefined> {
    const { tracing } = this.options;
    if (tracing === undefined) return this.#create(digest, source, unusable);
    const { upstream, repository } = source;
    const span = tracing.begin('transfer', {
      attributes: {
        'cistern.digest': digest,
        'cistern.repository': repository,
        'cistern.upstream': upstream.host,
      },
    });
    const made = span.run(() => this.#create(digest, source, unusable));
    void followSpan(span, made);
    return made;
  }

  async #create(
    digest: Digest,
    source: Source,
    unusable: Unusable | undefined,
  ): Promise<Transfer | undefined> {
    const { newSpoolFile, freeSpoolBytes, maxSpoolBytes, metrics, log } = this.options;
    if (this.#closing !== undefined) throw this.#closing;
    // Another transfer may have ended between the look into the store and now.
    if (await this.#isStored(digest, unusable)) return undefined;
    if (this.#reserved >= maxSpoolBytes) throw spoolFull(maxSpoolBytes);
    const free = (await freeSpoolBytes()) ?? Infinity; // before the spool, which nothing would close if this throws
    const spool = await Spool.create(digest, await newSpoolFile(digest));
    const started = performance.now();
    const attempt = randomBytes(16).toString('hex');
    let reserved = 0;
    let spooled = 0;
    let passing = 0;
    const filler = this.#filler(spool, attempt, unusable, () => transfer.size);
    const transfer: Transfer = new Transfer(digest, source, spool, filler, {
      reserve: (bytes) => {
        if (this.#reserved + bytes > maxSpoolBytes) throw spoolFull(maxSpoolBytes);
        if (this.#unwritten + bytes > free) throw diskFull();
        this.#reserved += bytes;
        this.#unwritten += bytes;
        reserved += bytes;
      },
      grown: (bytes) => {
        this.#unwritten -= bytes;
        spooled += bytes;
        metrics.spoolBytes.inc(bytes);
      },
      pass: (err) => {
        if (this.#passing >= mostPassing) throw err;
        this.#passing += 1;
        passing = 1;
        log.warn({ digest, offset: spool.length, err }, 'no room for a blob, passing the rest on unstored');
      },
      ended: () => {
        this.#running.delete(digest);
        this.#reserved -= reserved;
        this.#unwritten -= reserved - spooled;
        this.#passing -= passing;
        metrics.transfersRunning.dec();
        metrics.spoolBytes.dec(spooled);
        if (passing > 0) this.#attempts.delete(attempt);
        else this.#linger(attempt, spool);
      },
    });
    this.#attempts.set(attempt, transfer);
    metrics.transfersRunning.inc();
    void this.#follow(transfer, source, started);
    return transfer;
  }

  /** A store that cannot say so does not keep content from those who want it. */
  async #isStored(digest: Digest, unusable: Unusable | undefined): Promise<boolean> {
    const { shelf, trouble } = this.options;
    const size = await trouble.survive(() => shelf.blobs.stat(digest));
    return size !== undefined && isUsable(size, unusable);
  }

  #filler(
    spool: Spool,
    attempt: string,
    unusable: Unusable | undefined,
    size: () => number | undefined,
  ): Filler {
    const { cluster, maxBlobBytes, log, metrics, tracing } = this.options;
    const { digest } = spool;
    const { blobs } = this.options.shelf;
    const upload = uploadsEarly(blobs) ? blobs.begin(digest, spool.path) : undefined;
    const shelf = upload === undefined ? this.options.shelf : this.options.shelf.withUpload(upload);
    const pulled = metrics.proxyPulledBytes.labels({ type: 'blob' }); // found once, not for each chunk
    const lead: LeadOptions = {
      maxBytes: maxBlobBytes,
      read: (bytes) => {
        pulled.inc(bytes);
        upload?.grown(spool.kept, size());
      },
      resumed: ({ upstream, repository }, offset, err) => {
        metrics.transferResumes.inc({ upstream: upstream.host });
        const facts = { upstream: upstream.host, repository, digest, offset, err };
        log.warn(facts, 'transfer broke, trying again');
      },
    };
    const { coordinator, peers } = cluster;
    const url = peers?.url();
    if (peers === undefined || url === undefined) return new LocalFiller(shelf, lead);
    return new ClusterFiller(digest, {
      coordinator,
      seals: peers.seals,
      neighbours: this.#neighbours,
      self: { url, attempt },
      shelf,
      lead,
      unusable,
      log,
      role: (role) => {
        metrics.transferRoles.inc({ role });
        tracing?.annotate({ 'cistern.role': role });
      },
      tracing,
    });
  }

  /** Keeps the spool readable for other replicas a while; more of them at once push the oldest out. */
  #linger(attempt: string, spool: Spool): void {
    if (this.options.cluster.peers === undefined || this.#closing !== undefined || !spool.retain()) {
      this.#attempts.delete(attempt);
      return;
    }
    const timer = setTimeout(() => this.#forget(attempt), lingerMs).unref();
    this.#lingering.set(attempt, { spool, timer });
    const [oldest] = this.#lingering.keys();
    if (this.#lingering.size > mostLingering && oldest !== undefined) this.#forget(oldest);
  }

  #forget(attempt: string): void {
    const lingering = this.#lingering.get(attempt);
    this.#lingering.delete(attempt);
    this.#attempts.delete(attempt);
    clearTimeout(lingering?.timer);
    lingering?.spool
      .release()
      .catch((err: unknown) => this.options.log.warn({ err, attempt }, 'a spool could not be closed'));
  }

  async #follow(transfer: Transfer, source: Source, started: number): Promise<void> {
    const { log, metrics } = this.options;
    const upstream = source.upstream.host;
    const facts = { upstream, repository: source.repository, digest: transfer.digest };
    let failure: unknown;
    try {
      await transfer.finished;
      metrics.storageUploadBytes.inc(transfer.length);
      const seconds = (performance.now() - started) / 1000;
      log.info({ ...facts, bytes: transfer.size, seconds }, 'blob stored');
    } catch (err) {
      failure = err;
      if (err instanceof DigestMismatch) metrics.mismatches.inc({ upstream, type: 'blob' });
      const result = transferResult(err);
      log[result === 'refused' ? 'info' : 'error']({ ...facts, result, err }, 'blob not stored');
    }
    metrics.transfers.inc({ upstream, result: transferResult(failure) });
  }
}

async function followSpan(span: TraceSpan, made: Promise<Transfer | undefined>): Promise<void> {
  try {
    const transfer = await made;
    await transfer?.finished;
    span.set({ 'cistern.bytes': transfer?.length });
    span.end();
  } catch (error) {
    span.end(error);
  }
}

function diskFull(): StorageError {
  return new StorageError('full', 'the file system of the spool has no room for this blob');
}

function spoolFull(limit: number): StorageError {
  return new StorageError(
    'full',
    `running transfers already take what proxy.spool.maxsize allows (${limit} bytes)`,
  );
}
