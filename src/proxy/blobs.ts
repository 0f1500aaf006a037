import { SingleFlight } from '../async/single-flight.js';
import { pause, waitFor } from '../async/wait.js';
import type { Cluster } from '../cluster/cluster.js';
import type { Descriptor } from '../oci/descriptor.js';
import type { Digest } from '../oci/digest.js';
import { RangeUnsatisfiable, resolveRange, type ByteRange, type RequestedRange } from '../oci/range.js';
import {
  StorageError,
  type BlobStore,
  type OpenBlob,
  type Presigned,
  type Presigns,
  type RepositoryStore,
} from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { isTrouble, UpstreamError, type Upstream } from '../upstream/upstream.js';
import { giveUp } from '../memory/buffer-pool.js';
import type { ExpectedSizes } from './expected-sizes.js';
import type { Source, Unusable } from './filler.js';
import type { BlobAnswer, Outcome } from './proxy.js';
import { Refusals } from './remembered.js';
import type { StoreTrouble } from './store-trouble.js';
import type { TransferReader } from './transfer.js';
import type { Transfers } from './transfers.js';
import { Deadline } from './deadline.js';

/** A blob's first byte comes within this or not at all: clients give up after 10 s. */
const firstByteMs = 8_000;
const confirmMs = 5_000;
/** A range that the transfer reaches within this is waited for. */
const nearMs = 2_000;
const farRangesAtOnce = 4;
/** Pauses before a request looks for a blob again, in the store and among the transfers. */
const lookAgainMs = [10, 50, 250, 1_000];

/** The repository's upstream has not confirmed the stored blob: only verified bytes from there may be served. */
const unproven = Symbol('unproven');
type Permission = Outcome | typeof unproven | undefined;

/** Where clients fetch a blob by themselves. */
interface BlobLocation {
  readonly url: string;
  readonly outcome: Outcome;
}

/** What the store has of a blob. */
interface Look {
  /** It is whole, as far as its size tells. */
  readonly stored: OpenBlob | undefined;
  /** Why the content that the store has under the digest cannot be used. */
  readonly unusable?: Unusable;
}

/** Blobs: here, or joined to the transfer that brings them. */
export class Blobs {
  readonly #refusals = new Refusals();
  readonly #confirming = new SingleFlight<number | undefined>();
  readonly #adopting = new SingleFlight<void>();
  readonly #farRanges = new Map<Upstream, number>();

  constructor(
    private readonly blobs: BlobStore,
    private readonly repositories: RepositoryStore,
    private readonly transfers: Transfers,
    private readonly trouble: StoreTrouble,
    private readonly log: Logger,
    private readonly metrics: Metrics,
    private readonly cluster: Cluster,
    /** `undefined`: clients are not to be sent to the storage. */
    private readonly presigning: Presigns | undefined,
    private readonly sizes: ExpectedSizes,
  ) {}

  /** As `locate`, from memory, with no input or output at all. */
  recallLocation(route: Route, digest: Digest): BlobLocation | undefined {
    const found = this.presigning?.recallPresigned(digest);
    if (found === undefined) return undefined;
    const key = `${route.stored}@${digest}`;
    const { url, size } = found;
    if (this.cluster.descriptors.peek(key)?.size !== size) return undefined;
    if ((this.sizes.get(key) ?? size) !== size) return undefined;
    this.#countLookUp(true);
    return { url, outcome: 'hit' };
  }

  /**
   * Where a client fetches a stored and linked blob by itself; `undefined`: it is to be opened here. Once the blob is
   * known no request is made. Throws StorageError.
   */
  async locate(route: Route, digest: Digest): Promise<BlobLocation | undefined> {
    if (this.presigning === undefined) return undefined;
    const key = `${route.stored}@${digest}`;
    const known = await this.#lookUp(key);
    const isLinked =
      known !== undefined ||
      (await this.trouble.read(route, () => this.repositories.hasLayer(route.stored, digest)));
    if (isLinked !== true) return undefined;
    // The look at the object comes after the link, so it sees the renewal that came before the link.
    const found = await this.#presign(route, digest);
    if (found === undefined || (await this.#isDamaged(digest, key, found.size))) return undefined;
    if (known !== found.size) this.cluster.descriptors.put(key, descriptorOf(digest, found.size));
    return { url: found.url, outcome: 'hit' };
  }

  /**
   * The blob, or a range of it, for reading; on a miss it starts or joins the one transfer. Throws UpstreamError,
   * StorageError, RangeUnsatisfiable.
   */
  async open(
    route: Route,
    digest: Digest,
    range: RequestedRange | undefined,
    signal: AbortSignal,
  ): Promise<BlobAnswer | undefined> {
    const key = `${route.stored}@${digest}`;
    const { upstream } = route;
    const source = upstream && { upstream, repository: route.name, stored: route.stored };
    if (source !== undefined && (await this.transfers.get(digest))?.hasSource(route.stored) === true) {
      // On its way there: the store, which may be far away, need not be asked.
      return this.#openCold(route, digest, key, source, undefined, range, signal);
    }
    const { stored, unusable } = await this.#look(route, digest, key, range);
    if (stored !== undefined) {
      const opened = await this.#openStored(route, digest, key, stored, signal);
      if (opened !== unproven) return opened;
      return source && this.#openCold(route, digest, key, source, stored.size, range, signal);
    }
    // Whoever came for the same at the same time has dropped it.
    if (this.transfers.get(digest) === undefined) this.cluster.descriptors.drop(key);
    // The failure may be the last of a short outage: the transfer asks the store once more before the upstream.
    const known = unusable instanceof StorageError ? undefined : unusable;
    return source && this.#openCold(route, digest, key, source, known, range, signal);
  }

  async #openCold(
    route: Route,
    digest: Digest,
    key: string,
    source: Source,
    unusable: Unusable | undefined,
    range: RequestedRange | undefined,
    signal: AbortSignal,
  ): Promise<BlobAnswer | undefined> {
    let passedOver = unusable;
    using deadline = new Deadline(firstByteMs, source.upstream.host, 'GET of a blob');
    const inTime = AbortSignal.any([signal, deadline.signal]);
    for (const againMs of [...lookAgainMs, undefined]) {
      inTime.throwIfAborted();
      const reader = await this.#join(route, digest, key, source, passedOver, inTime);
      // Awaited here: the deadline ends with this function.
      if (reader !== undefined) return await this.#openRunning(reader, source, key, range, inTime, signal);
      // Its transfer has just ended: the store has it now, or a new one is due.
      const look = await this.#look(route, digest, key, range);
      const opened = look.stored && (await this.#openStored(route, digest, key, look.stored, signal));
      if (look.stored !== undefined && opened !== unproven) return opened;
      passedOver = look.unusable ?? look.stored?.size;
      if (againMs !== undefined) await pause(againMs, inTime);
    }
    if (passedOver instanceof StorageError) throw passedOver;
    throw new StorageError('io', `the store does not keep blob ${digest}`);
  }

  async #presign(route: Route, digest: Digest): Promise<Presigned | undefined> {
    try {
      return await this.trouble.read(route, async () => this.presigning?.presign(digest));
    } catch (err) {
      if (!(err instanceof StorageError)) throw err;
      this.log.debug({ digest, err }, 'no address of a blob'); // opening it will tell what is wrong
      return undefined;
    }
  }

  async #openStored(
    route: Route,
    digest: Digest,
    key: string,
    stored: OpenBlob,
    signal: AbortSignal,
  ): Promise<BlobAnswer | typeof unproven | undefined> {
    let outcome: Permission;
    try {
      outcome = await this.#permit(route, digest, key, stored.size, signal);
      if (outcome !== undefined && outcome !== unproven) return { ...stored, outcome };
    } catch (error) {
      await stored.close();
      throw error;
    }
    await stored.close();
    return outcome;
  }

  /** The blob's size, without transferring it. `size: undefined` where only the upstream knows and does not say. */
  async head(
    route: Route,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ size: number | undefined; outcome: Outcome } | undefined> {
    const key = `${route.stored}@${digest}`;
    const known = await this.#lookUp(key);
    if (known !== undefined) return { size: known, outcome: 'hit' };
    const size = await this.trouble.read(route, () => this.blobs.stat(digest));
    if (size !== undefined) {
      if (await this.#isDamaged(digest, key, size)) return this.#headElsewhere(route, digest, key, signal);
      const outcome = await this.#permit(route, digest, key, size, signal);
      if (outcome === unproven) return this.#headElsewhere(route, digest, key, signal);
      return outcome && { size, outcome };
    }
    return this.#headElsewhere(route, digest, key, signal);
  }

  async #headElsewhere(
    route: Route,
    digest: Digest,
    key: string,
    signal: AbortSignal,
  ): Promise<{ size: number | undefined; outcome: Outcome } | undefined> {
    const running = await this.transfers.get(digest);
    if (running?.size !== undefined && running.gives(route.stored)) {
      return { size: running.size, outcome: 'miss' };
    }
    if (route.upstream === undefined) return undefined;
    const said = await this.#confirm(route.upstream, route, digest, key, signal);
    return { size: said ?? this.sizes.get(key), outcome: 'miss' };
  }

  /**
   * Rule 7: serves stored content only under a repository where it is linked, or whose upstream confirms it by the same
   * size. Returns how it was permitted, `unproven` if the sizes differ, `undefined` if there is no upstream.
   */
  async #permit(
    route: Route,
    digest: Digest,
    key: string,
    size: number,
    signal: AbortSignal,
  ): Promise<Permission> {
    if ((await this.#lookUp(key)) === size) return 'hit';
    if (await this.trouble.read(route, () => this.repositories.hasLayer(route.stored, digest))) {
      this.cluster.descriptors.put(key, descriptorOf(digest, size));
      return 'hit';
    }
    // Content becomes visible a moment before its links.
    const running = await this.transfers.get(digest);
    if (running?.gives(route.stored) === true) return 'miss';
    if (route.upstream === undefined) return undefined;
    const said = await this.#confirm(route.upstream, route, digest, key, signal);
    if (said !== size) return unproven;
    const adopted = this.#adopting.join(key, () => this.#adopt(route, digest, key, size));
    await this.trouble.awaitWrite(adopted);
    return 'revalidated';
  }

  /** Links stored content, so that no deletion that begins later removes it (rule 8). Never throws. */
  async #adopt(route: Route, digest: Digest, key: string, size: number): Promise<void> {
    try {
      await this.trouble.survive(async () => {
        if ((await this.blobs.renew(digest)) !== size) return;
        await this.repositories.linkLayer(route.stored, digest);
        this.cluster.descriptors.put(key, descriptorOf(digest, size));
      });
    } catch (err) {
      this.log.error({ digest, repository: route.stored, err }, 'stored content was not linked');
    }
  }

  /** Treats content that is damaged or cannot be opened like absent content, which is fetched again. */
  async #look(route: Route, digest: Digest, key: string, range: RequestedRange | undefined): Promise<Look> {
    let stored: OpenBlob | undefined;
    let failure: StorageError | undefined;
    try {
      stored = await this.trouble.read(
        route,
        () => this.blobs.open(digest, range),
        (error) => (failure = error),
      );
    } catch (error) {
      // The range may be in what is missing.
      if (!(error instanceof RangeUnsatisfiable) || !(await this.#isDamaged(digest, key, error.size)))
        throw error;
      return { stored: undefined, unusable: error.size };
    }
    if (stored === undefined) return { stored, ...(failure === undefined ? {} : { unusable: failure }) };
    try {
      if (!(await this.#isDamaged(digest, key, stored.size))) return { stored };
    } catch (error) {
      await stored.close();
      throw error;
    }
    await stored.close();
    return { stored: undefined, unusable: stored.size };
  }

  /** Whether a manifest, or whoever stored the blob, said another size. */
  async #isDamaged(digest: Digest, key: string, size: number): Promise<boolean> {
    const expected = this.sizes.get(key) ?? (await this.cluster.descriptors.get(key))?.size;
    if (expected === undefined || expected === size) return false;
    this.sizes.tell('blob', digest, size, expected);
    return true;
  }

  async #lookUp(key: string): Promise<number | undefined> {
    const known = (await this.cluster.descriptors.get(key))?.size;
    const expected = this.sizes.get(key);
    const size = expected === undefined || expected === known ? known : undefined;
    this.#countLookUp(size !== undefined);
    return size;
  }

  #countLookUp(isHit: boolean): void {
    this.metrics.storageCache.inc({ type: 'Request' });
    this.metrics.storageCacheRequests.inc();
    this.metrics.storageCache.inc({ type: isHit ? 'Hit' : 'Miss' });
    if (isHit) this.metrics.storageCacheHits.inc();
  }

  /** Asks the repository's own upstream for the blob's size. Concurrent callers share one question. */
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

  /** A reader of the digest's one transfer; `undefined` when that is over. */
  async #join(
    route: Route,
    digest: Digest,
    key: string,
    source: Source,
    unusable: Unusable | undefined,
    signal: AbortSignal,
  ): Promise<TransferReader | undefined> {
    this.#refusals.throwIfHeld(key);
    const transfer = await (this.transfers.get(digest) ?? this.transfers.start(digest, source, unusable));
    if (transfer === undefined) return undefined;
    if (!transfer.hasSource(route.stored)) {
      const [said, size] = await Promise.all([
        this.#confirm(source.upstream, route, digest, key, signal),
        transfer.sizeOnceOpen(signal),
      ]);
      // An unknown size confirms nothing. After the transfer, this repository tries the store, then its own transfer.
      if (said === undefined || said !== size || !transfer.addSource(source)) {
        const ended = transfer.finished.catch(() => undefined);
        await waitFor(ended, signal);
        return undefined;
      }
    }
    return transfer.join(route.stored);
  }

  async #openRunning(
    reader: TransferReader,
    source: Source,
    key: string,
    requested: RequestedRange | undefined,
    inTime: AbortSignal,
    signal: AbortSignal,
  ): Promise<BlobAnswer> {
    const { transferReaders } = this.metrics;
    transferReaders.inc();
    const close = (): Promise<void> => {
      transferReaders.dec();
      return reader.close();
    };
    try {
      await reader.opened(inTime);
      const { size } = reader.transfer;
      if (size === undefined) return this.#openUnsized(reader, source, key, close, signal);
      const range = requested && resolveRange(requested, size);
      return { size, range, outcome: 'miss', body: this.#readRunning(reader, source, range, signal), close };
    } catch (error) {
      await close();
      if (error instanceof UpstreamError && error.kind === 'answer') this.#refusals.remember(key, error);
      throw error;
    }
  }

  /** Opens a whole blob if its upstream does not name the size. Uses the size in a manifest, if one is known. */
  #openUnsized(
    reader: TransferReader,
    { upstream }: Source,
    key: string,
    close: () => Promise<void>,
    signal: AbortSignal,
  ): BlobAnswer {
    const size = this.sizes.get(key);
    const bytes = reader.read(undefined, signal);
    const body = size === undefined ? bytes : exactly(size, bytes, upstream);
    return { size, range: undefined, outcome: 'miss', body, close };
  }

  /**
   * A range far ahead of the transfer does not wait for it: after a moment it is asked of the upstream by itself.
   * Its bytes go to this client only; the blob's last byte still comes from the verified transfer (rule 1).
   */
  async *#readRunning(
    reader: TransferReader,
    source: Source,
    range: ByteRange | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let rest = range;
    const { size, readable } = reader.transfer;
    if (range !== undefined && size !== undefined && range.start >= readable && range.start < size - 1) {
      let { start } = range;
      if (!(await this.#reachedSoon(reader, start, signal))) {
        const apart = { start, end: Math.min(range.end, size - 2) };
        for await (const chunk of this.#fetchApart(reader.transfer.digest, source, apart, signal)) {
          start += chunk.byteLength;
          yield chunk;
        }
      }
      if (start > range.end) return;
      rest = { start, end: range.end };
    }
    yield* reader.read(rest, signal);
  }

  async #reachedSoon(reader: TransferReader, offset: number, signal: AbortSignal): Promise<boolean> {
    const soon = AbortSignal.timeout(nearMs);
    try {
      await reader.reached(offset, AbortSignal.any([signal, soon]));
      return true;
    } catch (error) {
      if (signal.aborted || !soon.aborted) throw error;
      return false;
    }
  }

  /** Yields as much of the range as can be had; the rest is then read from the transfer. */
  async *#fetchApart(
    digest: Digest,
    { upstream, repository }: Source,
    range: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const running = this.#farRanges.get(upstream) ?? 0;
    if (running >= farRangesAtOnce) return;
    this.#farRanges.set(upstream, running + 1);
    this.metrics.farRanges.inc({ upstream: upstream.host });
    try {
      const { body } = await upstream.fetchRange(repository, digest, range, signal);
      for await (const chunk of body) {
        this.metrics.proxyPulledBytes.inc({ type: 'blob' }, chunk.byteLength);
        yield chunk;
        giveUp(chunk);
      }
    } catch (err) {
      if (!isTrouble(err)) throw err;
      const facts = { upstream: upstream.host, digest, err };
      this.log.warn(facts, 'range apart failed, waiting for the transfer');
    } finally {
      this.#farRanges.set(upstream, (this.#farRanges.get(upstream) ?? 1) - 1);
    }
  }
}

/**
 * A body whose size a manifest names. Holds the last byte back until the body ends, so that a client never takes a body
 * of another size for a complete one. Throws UpstreamError `invalid` if the size differs.
 */
async function* exactly(
  size: number,
  body: AsyncIterable<Uint8Array>,
  upstream: Upstream,
): AsyncGenerator<Uint8Array> {
  let read = 0;
  let last: Uint8Array | undefined;
  for await (const chunk of body) {
    read += chunk.byteLength;
    if (read > size) break;
    if (read === size) last = Uint8Array.from(chunk.subarray(-1)); // the chunk's memory is used again
    const rest = read === size ? chunk.subarray(0, -1) : chunk;
    if (rest.byteLength > 0) yield rest;
  }
  if (read !== size) {
    const found = read > size ? 'more' : `${read}`;
    throw new UpstreamError(
      'invalid',
      upstream.host,
      `a manifest names ${size} bytes for a blob that has ${found}`,
    );
  }
  if (last !== undefined) yield last;
}

function descriptorOf(digest: Digest, size: number): Descriptor {
  return { digest, size, mediaType: 'application/octet-stream' };
}
