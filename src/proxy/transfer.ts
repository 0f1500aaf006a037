import type { PeerFailure } from '../cluster/peers/frames.js';
import type { PeerSpool } from '../cluster/peers/peer-server.js';
import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { ByteRange } from '../oci/range.js';
import { StorageError } from '../storage/storage.js';
import type { Spool } from '../storage/spool.js';
import { UpstreamError } from '../upstream/upstream.js';
import { Changes } from './changes.js';
import type { Filler, Filling, Source } from './filler.js';
import { Passing, type Place } from './passing.js';

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
  readonly #changes: Changes;
  readonly #passing: Passing;
  readonly #abort = new AbortController();
  #phase: 'opening' | 'filling' | 'verified' | 'failed' = 'opening';
  #size: number | undefined;
  #error: unknown;
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
    this.#changes = new Changes(spool);
    this.#passing = new Passing(spool, this.#changes, () => this.readable);
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

  /** Waits until a source answers. Returns the blob's size; `undefined` if it names none, or if there is no source. */
  async sizeOnceOpen(signal: AbortSignal): Promise<number | undefined> {
    while (this.#phase === 'opening') await this.#changes.next(signal);
    return this.#size;
  }

  get isOpen(): boolean {
    return this.#phase === 'filling' || this.#phase === 'verified';
  }

  /** Whether this repository's upstream has confirmed the blob, and it is coming. */
  gives(stored: Repository): boolean {
    return this.isOpen && this.hasSource(stored) && !this.#refused.has(stored);
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
    this.#changes.tell();
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
    if (this.#passing.full === undefined) await this.#keep(chunk);
    const { full } = this.#passing;
    if (full !== undefined) await this.#passing.pass(chunk, full, this.signal);
    this.#changes.tellGrowth();
  }

  /** In the spool. When that is full, what comes from now on, this chunk included, is to be passed on instead. */
  async #keep(chunk: Uint8Array): Promise<void> {
    try {
      if (this.#size === undefined) this.hooks.reserve(chunk.byteLength);
      await this.spool.append(chunk);
      this.hooks.grown(chunk.byteLength);
    } catch (error) {
      const full = error instanceof StorageError && error.code === 'full' && this.#passing.hasReaders;
      if (!full) throw error;
      this.hooks.pass(error);
      this.#passing.begin(error);
    }
  }

  /**
   * A reader for a repository. `undefined`: the transfer is over, the store has the blob or nobody. Throws
   * StorageError `full` when what was passed on is gone.
   */
  join(stored: Repository): TransferReader | undefined {
    if (this.#passing.full !== undefined) throw this.#passing.full;
    // Held from now on: a descriptor that closes before the first read could come back as another file.
    if (!this.spool.retain()) return undefined;
    const place = this.#passing.enter();
    return {
      transfer: this,
      opened: (signal) => this.#opened(stored, signal),
      reached: (offset, signal) => this.#reached(offset, signal),
      read: (range, signal) => this.#read(stored, place, range, signal),
      close: () => this.#leave(place),
    };
  }

  #leave(place: Place): Promise<void> {
    this.#passing.leave(place);
    return this.spool.release();
  }

  async #opened(stored: Repository, signal: AbortSignal): Promise<void> {
    while (this.#phase === 'opening') {
      this.#throwIfOver(stored);
      await this.#changes.next(signal);
    }
    this.#throwIfOver(stored);
  }

  async #reached(offset: number, signal: AbortSignal): Promise<void> {
    while (this.readable <= offset && this.#phase !== 'verified' && this.#phase !== 'failed') {
      await this.#changes.next(signal);
    }
  }

  async *#read(
    stored: Repository,
    place: Place,
    range: ByteRange | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const end = range === undefined ? Infinity : range.end + 1;
    for (let offset = range?.start ?? 0; offset < end;) {
      signal.throwIfAborted();
      this.#passing.move(place, offset);
      const until = Math.min(this.readable, end);
      if (offset < until) {
        const { bytes, giveBack } = await this.spool.readAt(offset, until - offset);
        offset += bytes.byteLength;
        try {
          yield bytes;
        } finally {
          giveBack();
        }
      } else {
        if (this.#phase === 'verified') return;
        this.#throwIfOver(stored);
        await this.#changes.next(signal);
      }
    }
  }

  /** Gives up: readers get the reason. */
  abort(reason: Error): void {
    this.#abort.abort(reason);
  }

  /** This transfer as other replicas may read it; `undefined` when it is closed. */
  peerSpool(): PeerSpool | undefined {
    if (this.#passing.full !== undefined || !this.spool.retain()) return undefined;
    const place = this.#passing.enter();
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
      readAt: async (offset, length) => {
        this.#passing.move(place, offset);
        const { bytes, giveBack } = await this.spool.readAt(offset, length);
        const copy = Buffer.from(bytes); // it is on its way to the other replica for as long as that takes
        giveBack();
        return copy;
      },
      changed: (withinMs, signal) => this.#changes.nextWithin(withinMs, signal),
      release: () => this.#leave(place),
    };
  }

  async #run(): Promise<void> {
    let stored = false;
    try {
      await this.filler.fill(this);
      this.spool.verify(this.#size);
      this.#size = this.spool.length;
      this.#become('verified');
      const { full } = this.#passing;
      if (full !== undefined) throw full;
      const file = await this.spool.toFile();
      const repositories = this.#sources.map((source) => source.stored);
      await this.filler.store(
        file,
        repositories.filter((repository) => !this.#refused.has(repository)),
        this.signal,
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
    this.#changes.tell();
  }
}

/** The result of a transfer as a metric's label. */
export function transferResult(error: unknown): string {
  if (error === undefined) return 'stored';
  if (error instanceof UpstreamError) return error.kind === 'answer' ? 'refused' : 'broken';
  if (error instanceof StorageError) return error.code === 'full' ? 'spool' : 'store';
  return error instanceof Error && error.name === 'DigestMismatch' ? 'mismatch' : 'broken';
}
