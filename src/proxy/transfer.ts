import type { PeerFailure } from '../cluster/peers/frames.js';
import type { PeerSpool } from '../cluster/peers/peer-server.js';
import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { ByteRange } from '../oci/range.js';
import { BufferPool } from '../storage/buffer-pool.js';
import { StorageError, type VerifiedFile } from '../storage/storage.js';
import type { Spool } from '../storage/spool.js';
import { UpstreamError, type Upstream } from '../upstream/upstream.js';

/** An upstream's repository that may have the blob, and that repository's name in the store. */
export interface Source {
  readonly upstream: Upstream;
  readonly repository: Repository;
  readonly stored: Repository;
}

/** A transfer, as whoever fills it sees it. */
export interface Filling {
  readonly digest: Digest;
  /** Bytes that are in the spool. */
  readonly length: number;
  readonly size: number | undefined;
  /** Aborts when the transfer is given up. */
  readonly signal: AbortSignal;
  /** The first repository that is not refused; `undefined`: none is left, and none that comes now is asked. */
  nextSource(): Source | undefined;
  /** Fails the readers of one repository. */
  refuse(source: Source, error: UpstreamError): void;
  /** The blob can be had: by this source's word, and so large where that is known. Readers may be answered. */
  open(source: Source, size: number | undefined): void;
  append(chunk: Uint8Array): Promise<void>;
}

/** How a transfer gets its bytes, and what becomes of them. One for each transfer. */
export interface Filler {
  /** Settles when all bytes are in the spool. Throws why they never will be. */
  fill(filling: Filling): Promise<void>;
  /** Takes the verified content into the store, and links it in these repositories. */
  store(file: VerifiedFile, repositories: readonly Repository[]): Promise<void>;
  /** Last, whatever happened. */
  close(stored: boolean): Promise<void>;
}

/** Somebody who reads a transfer, at their own pace. */
export interface TransferReader {
  readonly transfer: Transfer;
  /** Settles when the first byte can be had; throws why it cannot, for readers from this repository. */
  opened(signal: AbortSignal): Promise<void>;
  /** Settles when this byte can be read, or never will be. */
  reached(offset: number, signal: AbortSignal): Promise<void>;
  /** Bytes in order, as they arrive; a chunk is the reader's until it asks for the next. Throws rather than end early. */
  read(range: ByteRange | undefined, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Once, whatever happened. */
  close(): Promise<void>;
}

/** What a transfer tells the rest. */
export interface TransferHooks {
  /** Room in the spool for so many bytes more; throws StorageError `full`. As early as the size is known. */
  reserve(bytes: number): void;
  grown(bytes: number): void;
  /** The spool has no room for the rest: may it be passed on without? Throws the error where it may not. */
  pass(full: StorageError): void;
  /** From now on nobody can join. */
  ended(): void;
}

const wakeBytes = 64 * 1024;
const wakeMs = 10;
/** What a transfer whose spool is full holds in memory. */
const passedBytes = 2 * 1024 * 1024;
/** When others wait for bytes that there is no room for, a reader that holds them up is cut off after this. */
const holdUpMs = 2_000;

/** Where a reader is. */
interface Place {
  offset: number;
  /** It was cut off. */
  cut: StorageError | undefined;
}

const readBuffers = new BufferPool(64 * 1024, 64);

/**
 * One blob on its way from an upstream into the store, and to everybody who wants it meanwhile. It belongs to
 * nobody: readers come and go, each at its own pace, and it goes on without them.
 *
 * 1. Its filler brings the bytes into the spool, once. A source that says no fails only the readers that came for
 *    its repository.
 * 2. Readers get what is in the spool, but the last byte only after the whole was hashed: corrupt content is cut
 *    off, never ended.
 * 3. Verified content goes to the store; anything else is dropped.
 * 4. When the spool has no more room, the rest goes from the upstream through a little memory to those who are
 *    reading, verified all the same, but to no store; nobody new can join.
 */
export class Transfer implements Filling {
  readonly finished: Promise<void>;
  readonly #sources: Source[] = [];
  readonly #refused = new Map<Repository, UpstreamError>();
  readonly #waiting = new Set<() => void>();
  readonly #places = new Set<Place>();
  /** Why the rest is passed on and not kept. */
  #full: StorageError | undefined;
  readonly #abort = new AbortController();
  #phase: 'opening' | 'filling' | 'verified' | 'failed' = 'opening';
  #size: number | undefined;
  #error: unknown;
  /** The spool's length when readers were last woken, and what wakes them for less than that is worth. */
  #woken = 0;
  #wakeTimer: NodeJS.Timeout | undefined;
  /** Repositories whose upstream gave or confirmed the blob. */
  readonly #confirmed = new Set<Repository>();
  /** No source gave the blob, and none that comes now is asked any more. */
  #exhausted = false;

  constructor(
    readonly digest: Digest,
    source: Source,
    private readonly spool: Spool,
    private readonly filler: Filler,
    private readonly hooks: TransferHooks,
  ) {
    this.#sources.push(source);
    this.finished = this.#run();
    this.finished.catch(() => undefined); // told to every reader; here it is only kept for those who ask
  }

  /** The blob's size in bytes, as far as it is known yet. */
  get size(): number | undefined {
    return this.#size;
  }

  get length(): number {
    return this.spool.length;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Bytes that a reader may have now. */
  get readable(): number {
    if (this.#phase === 'verified') return this.spool.length;
    const last = this.#size === undefined ? this.spool.length - 1 : this.#size - 1;
    return Math.max(0, Math.min(this.spool.length, last));
  }

  hasSource(stored: Repository): boolean {
    return this.#sources.some((source) => source.stored === stored);
  }

  /** Whether this repository's upstream has confirmed the blob, and it is coming. */
  gives(stored: Repository): boolean {
    const comes = this.#phase === 'filling' || this.#phase === 'verified';
    return comes && this.hasSource(stored) && !this.#refused.has(stored);
  }

  /** Adds a repository whose upstream has confirmed the blob. `false`: too late, what failed says nothing of it. */
  addSource(source: Source): boolean {
    if (this.#exhausted) return false;
    if (!this.hasSource(source.stored)) this.#sources.push(source);
    this.#confirmed.add(source.stored);
    return true;
  }

  nextSource(): Source | undefined {
    const source = this.#sources.find(({ stored }) => !this.#refused.has(stored));
    if (source === undefined) this.#exhausted = true;
    return source;
  }

  refuse(source: Source, error: UpstreamError): void {
    this.#refused.set(source.stored, error);
    this.#wake();
  }

  open(source: Source, size: number | undefined): void {
    if (size !== undefined && size !== this.#size) {
      if (this.#size !== undefined) {
        const reason = `changed the blob's size from ${this.#size} to ${size} bytes`;
        throw new UpstreamError('invalid', source.upstream.host, reason);
      }
      this.hooks.reserve(size - this.spool.length);
      this.#size = size;
    }
    this.#confirmed.add(source.stored);
    if (this.#phase === 'opening') this.#become('filling');
  }

  async append(chunk: Uint8Array): Promise<void> {
    this.#full ??= await this.#keep(chunk);
    if (this.#full !== undefined) await this.#pass(chunk, this.#full);
    this.#wakeForMore();
  }

  /** Returns why it cannot be kept, if it may be passed on instead. */
  async #keep(chunk: Uint8Array): Promise<StorageError | undefined> {
    try {
      if (this.#size === undefined) this.hooks.reserve(chunk.byteLength);
      await this.spool.append(chunk);
      this.hooks.grown(chunk.byteLength);
      return undefined;
    } catch (error) {
      const full = error instanceof StorageError && error.code === 'full' && this.#places.size > 0;
      if (!full) throw error;
      this.hooks.pass(error);
      return error;
    }
  }

  async #pass(chunk: Uint8Array, full: StorageError): Promise<void> {
    const since = performance.now();
    for (;;) {
      if (this.#places.size === 0) throw full;
      const slowest = Math.min(...[...this.#places].map(({ offset }) => offset));
      this.spool.forget(slowest);
      if (this.spool.held + chunk.byteLength <= passedBytes) break;
      const othersWait = [...this.#places].some(({ offset }) => offset >= this.readable);
      if (othersWait && performance.now() - since > holdUpMs) this.#cutOff(slowest, full);
      else await this.#change(this.signal, holdUpMs);
    }
    this.spool.pass(chunk);
  }

  #cutOff(offset: number, full: StorageError): void {
    for (const place of this.#places) {
      if (place.offset > offset) continue;
      place.cut = full;
      this.#places.delete(place);
    }
    this.#wake();
  }

  /**
   * A reader for a repository. `undefined`: the transfer is over, the store has the blob or nobody. Throws
   * StorageError `full` when what was passed on is gone.
   */
  join(stored: Repository): TransferReader | undefined {
    if (this.#full !== undefined) throw this.#full;
    // Held from now on: a descriptor that closes before the first read could come back as another file.
    if (!this.spool.retain()) return undefined;
    const place = this.#takePlace();
    return {
      transfer: this,
      opened: (signal) => this.#opened(stored, signal),
      reached: (offset, signal) => this.#reached(offset, signal),
      read: (range, signal) => this.#read(stored, place, range, signal),
      close: () => this.#leave(place),
    };
  }

  #takePlace(): Place {
    const place = { offset: 0, cut: undefined };
    this.#places.add(place);
    return place;
  }

  #leave(place: Place): Promise<void> {
    this.#places.delete(place);
    if (this.#full !== undefined) this.#wake();
    return this.spool.release();
  }

  async #opened(stored: Repository, signal: AbortSignal): Promise<void> {
    while (this.#phase === 'opening') {
      this.#throwIfOver(stored);
      await this.#change(signal);
    }
    this.#throwIfOver(stored);
  }

  async #reached(offset: number, signal: AbortSignal): Promise<void> {
    while (this.readable <= offset && this.#phase !== 'verified' && this.#phase !== 'failed') {
      await this.#change(signal);
    }
  }

  async *#read(
    stored: Repository,
    place: Place,
    range: ByteRange | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const end = range === undefined ? Infinity : range.end + 1;
    const buffer = readBuffers.take();
    try {
      for (let offset = range?.start ?? 0; offset < end;) {
        signal.throwIfAborted();
        this.#move(place, offset);
        const until = Math.min(this.readable, end);
        if (offset < until) {
          const chunk = await this.spool.readAt(offset, until - offset, buffer);
          offset += chunk.byteLength;
          yield chunk;
        } else {
          if (this.#phase === 'verified') return;
          this.#throwIfOver(stored);
          await this.#change(signal);
        }
      }
    } finally {
      readBuffers.give(buffer);
    }
  }

  #move(place: Place, offset: number): void {
    if (place.cut !== undefined) throw place.cut;
    if (place.offset === offset) return; // or those who wait would wake each other for ever
    place.offset = offset;
    if (this.#full !== undefined) this.#wake();
  }

  /** Gives up: readers get the reason. */
  abort(reason: Error): void {
    this.#abort.abort(reason);
  }

  /** This transfer as other replicas may read it; `undefined` when it is closed. */
  peerSpool(): PeerSpool | undefined {
    if (this.#full !== undefined || !this.spool.retain()) return undefined;
    const place = this.#takePlace();
    return {
      digest: this.digest,
      progress: () => ({
        kind: 'alive',
        length: this.spool.length,
        size: this.#size,
        repositories: [...this.#confirmed],
      }),
      ended: () => {
        if (this.#phase === 'verified') return 'verified';
        return this.#phase === 'failed' ? this.#failure() : undefined;
      },
      // A buffer of its own: it is on its way to the other replica for as long as that takes.
      readAt: (offset, length) => {
        this.#move(place, offset);
        return this.spool.readAt(offset, length, Buffer.allocUnsafe(length));
      },
      changed: (withinMs, signal) => this.#change(signal, withinMs),
      release: () => this.#leave(place),
    };
  }

  async #run(): Promise<void> {
    let stored = false;
    try {
      await this.filler.fill(this);
      const full = this.#full;
      const file = full === undefined ? this.spool.verify(this.#size) : this.spool.check(this.#size);
      this.#size = this.spool.length;
      this.#become('verified');
      if (file === undefined) throw full;
      await this.spool.sync();
      const repositories = this.#sources.map((source) => source.stored);
      await this.filler.store(
        file,
        repositories.filter((repository) => !this.#refused.has(repository)),
      );
      stored = true;
    } catch (error) {
      // Readers of verified content are served to the end even when the store does not take it.
      if (this.#phase !== 'verified') {
        this.#error = error;
        this.#become('failed');
      }
      throw error;
    } finally {
      this.hooks.ended();
      await this.filler.close(stored);
      await this.spool.discard();
      await this.spool.release();
    }
  }

  #failure(): PeerFailure {
    const error = this.#error;
    const reason = error instanceof Error ? error.message : String(error);
    if (!(error instanceof UpstreamError)) return { kind: 'failed', reason };
    const repository = [...this.#refused].find(([, refusal]) => refusal === error)?.[0];
    return { kind: 'failed', reason, code: error.code, ...(repository === undefined ? {} : { repository }) };
  }

  #throwIfOver(stored: Repository): void {
    const refused = this.#refused.get(stored);
    if (refused !== undefined) throw refused;
    if (this.#phase === 'failed') throw this.#error;
  }

  #become(phase: 'filling' | 'verified' | 'failed'): void {
    this.#phase = phase;
    this.#wake();
  }

  /** Readers are not woken for every crumb: with many of them that costs more than the bytes. */
  #wakeForMore(): void {
    if (this.#woken === 0 || this.spool.length - this.#woken >= wakeBytes) this.#wake();
    else this.#wakeTimer ??= setTimeout(() => this.#wake(), wakeMs);
  }

  #wake(): void {
    clearTimeout(this.#wakeTimer);
    this.#wakeTimer = undefined;
    this.#woken = this.spool.length;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** Settles when something has changed, or after so many milliseconds. */
  #change(signal: AbortSignal, withinMs?: number): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => reject(signal.reason as Error);
    const timer = withinMs === undefined ? undefined : setTimeout(resolve, withinMs);
    this.#waiting.add(resolve);
    signal.addEventListener('abort', leave, { once: true });
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(resolve);
      signal.removeEventListener('abort', leave);
    });
  }
}

/** The result of a transfer as a metric's label. */
export function transferResult(error: unknown): string {
  if (error === undefined) return 'stored';
  if (error instanceof UpstreamError) return error.kind === 'answer' ? 'refused' : 'broken';
  if (error instanceof StorageError) return error.code === 'full' ? 'spool' : 'store';
  return error instanceof Error && error.name === 'DigestMismatch' ? 'mismatch' : 'broken';
}
