import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.js';
import type { ByteRange } from '../oci/range.js';
import type { BlobStore, OpenBlob, RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { isTrouble, UpstreamError, type Upstream } from '../upstream/upstream.js';
import type { BlobAnswer, Outcome } from './proxy.js';
import { Refusals } from './remembered.js';
import type { Source, Transfer } from './transfer.js';
import type { Transfers } from './transfers.js';
import { Deadline, Flights, waitFor } from './waiting.js';

/** A blob's first byte comes within this or not at all: clients give up after 10 s. */
const firstByteMs = 9_000;
const confirmMs = 5_000;
/** A range that the transfer reaches within this is waited for. */
const nearMs = 2_000;
const farRangesAtOnce = 4;

/** Blobs: here, or joined to the transfer that brings them. */
export class Blobs {
  /** The descriptor cache: sizes of blobs that are linked in a repository, by `repository@digest`. */
  readonly #known = new LRUCache<string, number>({ max: 100_000 });
  readonly #refusals = new Refusals();
  readonly #confirming = new Flights<number | undefined>();
  readonly #farRanges = new Map<Upstream, number>();

  constructor(
    private readonly blobs: BlobStore,
    private readonly repositories: RepositoryStore,
    private readonly transfers: Transfers,
    private readonly log: Logger,
    private readonly metrics: Metrics,
  ) {}

  /** The blob for reading; on a miss it starts or joins the one transfer. Throws UpstreamError, StorageError. */
  async open(route: Route, digest: Digest, signal: AbortSignal): Promise<BlobAnswer | undefined> {
    const key = `${route.stored}@${digest}`;
    const stored = await this.blobs.open(digest);
    if (stored === undefined) {
      this.#known.delete(key);
      return this.#openRunning(route, digest, key, signal);
    }
    try {
      const outcome = await this.#permit(route, digest, key, stored.size, signal);
      if (outcome !== undefined) return storedBlob(stored, outcome);
    } catch (error) {
      await stored.close();
      throw error;
    }
    await stored.close();
    return undefined;
  }

  /** The blob's size, without transferring it. `size: undefined` where only the upstream knows and does not say. */
  async head(
    route: Route,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ size: number | undefined; outcome: Outcome } | undefined> {
    const key = `${route.stored}@${digest}`;
    const known = this.#lookUp(key);
    if (known !== undefined) return { size: known, outcome: 'hit' };
    const size = await this.blobs.stat(digest);
    if (size !== undefined) {
      const outcome = await this.#permit(route, digest, key, size, signal);
      return outcome === undefined ? undefined : { size, outcome };
    }
    const running = await this.transfers.get(digest);
    if (running?.size !== undefined && running.gives(route.stored)) {
      return { size: running.size, outcome: 'miss' };
    }
    if (route.upstream === undefined) return undefined;
    return { size: await this.#confirm(route.upstream, route, digest, key, signal), outcome: 'miss' };
  }

  /**
   * Rule 7: stored content is served under a repository where it is linked, or whose upstream confirms it. Returns
   * how that was found, `undefined` when it may not be served.
   */
  async #permit(
    route: Route,
    digest: Digest,
    key: string,
    size: number,
    signal: AbortSignal,
  ): Promise<Outcome | undefined> {
    if (this.#lookUp(key) === size) return 'hit';
    let outcome: Outcome = 'hit';
    if (!(await this.repositories.hasLayer(route.stored, digest))) {
      if (route.upstream === undefined) return undefined;
      await this.#confirm(route.upstream, route, digest, key, signal);
      await this.repositories.linkLayer(route.stored, digest);
      outcome = 'revalidated';
    }
    this.#known.set(key, size);
    return outcome;
  }

  #lookUp(key: string): number | undefined {
    const size = this.#known.get(key);
    this.metrics.storageCache.inc({ type: 'Request' });
    this.metrics.storageCacheRequests.inc();
    if (size === undefined) {
      this.metrics.storageCache.inc({ type: 'Miss' });
    } else {
      this.metrics.storageCache.inc({ type: 'Hit' });
      this.metrics.storageCacheHits.inc();
    }
    return size;
  }

  /** Asks the repository's own upstream whether it has the blob; once, however many want to know. */
  #confirm(
    upstream: Upstream,
    route: Route,
    digest: Digest,
    key: string,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    this.#refusals.throwIfHeld(key);
    const asked = this.#confirming.join(key, async () => {
      using deadline = new Deadline(confirmMs, upstream.host, 'HEAD of a blob');
      try {
        return await upstream.headBlob(route.name, digest, deadline.signal);
      } catch (error) {
        if (error instanceof UpstreamError && error.kind === 'answer') this.#refusals.remember(key, error);
        throw error;
      }
    });
    return waitFor(asked, signal);
  }

  async #openRunning(
    route: Route,
    digest: Digest,
    key: string,
    signal: AbortSignal,
  ): Promise<BlobAnswer | undefined> {
    const { upstream } = route;
    if (upstream === undefined) return undefined;
    this.#refusals.throwIfHeld(key);
    const source: Source = { upstream, repository: route.name, stored: route.stored };
    using deadline = new Deadline(firstByteMs, upstream.host, 'GET of a blob');
    const inTime = AbortSignal.any([signal, deadline.signal]);
    const transfer = await (this.transfers.get(digest) ?? this.transfers.start(digest, source));
    if (!transfer.hasSource(route.stored)) {
      await this.#confirm(upstream, route, digest, key, inTime);
      if (!transfer.addSource(source)) return this.#openNext(transfer, route, digest, signal);
    }
    try {
      await transfer.opened(route.stored, inTime);
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'answer') this.#refusals.remember(key, error);
      throw error;
    }
    if (!transfer.retain()) return this.#openNext(transfer, route, digest, signal);
    return this.#runningBlob(transfer, source);
  }

  /**
   * The transfer ended before this repository, which its upstream has confirmed, could have a part in it: what it
   * brought is in the store; what it did not bring says nothing of this repository's upstream.
   */
  async #openNext(
    transfer: Transfer,
    route: Route,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<BlobAnswer | undefined> {
    const ended = transfer.finished.then(
      () => true,
      () => false,
    );
    if (await waitFor(ended, signal)) await this.repositories.linkLayer(route.stored, digest);
    return this.open(route, digest, signal);
  }

  #runningBlob(transfer: Transfer, source: Source): BlobAnswer {
    this.metrics.transferReaders.inc();
    let open = true;
    return {
      size: transfer.size,
      outcome: 'miss',
      read: (range, signal) => this.#readRunning(transfer, source, range, signal),
      close: () => {
        if (!open) return Promise.resolve();
        open = false;
        this.metrics.transferReaders.dec();
        return transfer.release();
      },
    };
  }

  /**
   * A range far ahead of the transfer does not wait for it: after a moment it is asked of the upstream by itself.
   * Its bytes go to this client only; the blob's last byte still comes from the verified transfer (rule 1).
   */
  async *#readRunning(
    transfer: Transfer,
    source: Source,
    range: ByteRange | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let start = range?.start ?? 0;
    const { size } = transfer;
    if (range !== undefined && size !== undefined && start >= transfer.readable && start < size - 1) {
      if (!(await this.#reachedSoon(transfer, start, signal))) {
        const apart = { start, end: Math.min(range.end, size - 2) };
        for await (const chunk of this.#fetchApart(transfer, source, apart, signal)) {
          start += chunk.byteLength;
          yield chunk;
        }
      }
      if (start > range.end) return;
    }
    yield* transfer.read(source.stored, range === undefined ? undefined : { start, end: range.end }, signal);
  }

  async #reachedSoon(transfer: Transfer, offset: number, signal: AbortSignal): Promise<boolean> {
    const soon = AbortSignal.timeout(nearMs);
    try {
      await transfer.reached(offset, AbortSignal.any([signal, soon]));
      return true;
    } catch (error) {
      if (signal.aborted || !soon.aborted) throw error;
      return false;
    }
  }

  /** Yields as much of the range as can be had; the rest is then read from the transfer. */
  async *#fetchApart(
    transfer: Transfer,
    source: Source,
    range: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const { upstream, repository } = source;
    const running = this.#farRanges.get(upstream) ?? 0;
    if (running >= farRangesAtOnce) return;
    this.#farRanges.set(upstream, running + 1);
    this.metrics.farRanges.inc({ upstream: upstream.host });
    try {
      const { body } = await upstream.fetchRange(repository, transfer.digest, range, signal);
      for await (const chunk of body) {
        this.metrics.proxyPulledBytes.inc({ type: 'blob' }, chunk.byteLength);
        yield chunk;
      }
    } catch (err) {
      if (!isTrouble(err)) throw err;
      this.log.warn(
        { upstream: upstream.host, digest: transfer.digest, err },
        'range apart failed, waiting for the transfer',
      );
    } finally {
      this.#farRanges.set(upstream, (this.#farRanges.get(upstream) ?? 1) - 1);
    }
  }
}

function storedBlob(blob: OpenBlob, outcome: Outcome): BlobAnswer {
  return {
    size: blob.size,
    outcome,
    read: (range) => blob.read(range),
    close: () => blob.close(),
  };
}
