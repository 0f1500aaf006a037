import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { ByteRange } from '../oci/range.js';
import { BufferPool } from '../storage/buffer-pool.js';
import { StorageError, type VerifiedFile } from '../storage/storage.js';
import type { Spool } from '../storage/spool.js';
import { UpstreamError, type Upstream, type UpstreamCode } from '../upstream/upstream.js';

/** An upstream's repository that may have the blob, and that repository's name in the store. */
export interface Source {
  readonly upstream: Upstream;
  readonly repository: Repository;
  readonly stored: Repository;
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

/** What a transfer needs of the rest. */
export interface TransferHooks {
  /** Room in the spool for a blob of this size; throws StorageError `full`. Called once the size is known. */
  reserve(size: number): void;
  /** Takes the verified content into the store, and links it in these repositories. */
  store(file: VerifiedFile, repositories: readonly Repository[]): Promise<void>;
  grown(bytes: number, source: Source): void;
  resumed(source: Source, offset: number, error: UpstreamError): void;
  /** From now on nobody can join. */
  ended(): void;
}

const readBuffers = new BufferPool(64 * 1024, 64);
/** A break counts afresh after this much: an upstream that gives a byte at a time is not making progress. */
const progress = 64 * 1024;
const openingPauses = [150, 450];
const resumePauses = [100, 250, 500, 1_000, 2_000, 4_000];
/** Asking again at once would not help, or would do harm. */
const final: ReadonlySet<UpstreamCode> = new Set([
  'rate-limited',
  'breaker-open',
  'credentials-refused',
  'realm-refused',
]);

/**
 * One blob on its way from an upstream into the store, and to everybody who wants it meanwhile. It belongs to
 * nobody: readers come and go, each at its own pace, and it goes on without them.
 *
 * 1. The first source that gives the blob is read, once, into the spool. One that says no fails only the readers
 *    that came for its repository.
 * 2. A broken body is continued with `Range` from the byte reached, from the same source, then from others.
 * 3. Readers get what is in the spool, but the last byte only after the whole was hashed: corrupt content is cut
 *    off, never ended.
 * 4. Verified content goes to the store; anything else is dropped.
 */
export class Transfer {
  readonly finished: Promise<void>;
  readonly #sources: Source[] = [];
  readonly #refused = new Map<Repository, UpstreamError>();
  readonly #waiting = new Set<() => void>();
  readonly #abort = new AbortController();
  #phase: 'opening' | 'filling' | 'verified' | 'failed' = 'opening';
  #size: number | undefined;
  #error: unknown;
  /** No source gave the blob, and none that comes now is asked any more. */
  #exhausted = false;

  constructor(
    readonly digest: Digest,
    source: Source,
    private readonly spool: Spool,
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
    return true;
  }

  /** A reader for a repository. `undefined`: the transfer is over, the store has the blob or nobody. */
  join(stored: Repository): TransferReader | undefined {
    // Held from now on: a descriptor that closes before the first read could come back as another file.
    if (!this.spool.retain()) return undefined;
    return {
      transfer: this,
      opened: (signal) => this.#opened(stored, signal),
      reached: (offset, signal) => this.#reached(offset, signal),
      read: (range, signal) => this.#read(stored, range, signal),
      close: () => this.spool.release(),
    };
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
    range: ByteRange | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const end = range === undefined ? Infinity : range.end + 1;
    const buffer = readBuffers.take();
    try {
      for (let offset = range?.start ?? 0; offset < end;) {
        signal.throwIfAborted();
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

  /** Gives up: readers get the reason. */
  abort(reason: Error): void {
    this.#abort.abort(reason);
  }

  async #run(): Promise<void> {
    try {
      await this.#fill();
      const file = this.spool.verify(this.#size);
      this.#size = file.size;
      this.#become('verified');
      await this.spool.sync();
      await this.hooks.store(
        file,
        this.#sources.map((source) => source.stored).filter((stored) => !this.#refused.has(stored)),
      );
    } catch (error) {
      // Readers of verified content are served to the end even when the store does not take it.
      if (this.#phase !== 'verified') {
        this.#error = error;
        this.#become('failed');
      }
      throw error;
    } finally {
      this.hooks.ended();
      await this.spool.discard();
      await this.spool.release();
    }
  }

  /** Reads the sources, one after another, until the blob is whole. */
  async #fill(): Promise<void> {
    for (let index = 0; ; index += 1) {
      const source = this.#sources[index];
      if (source === undefined) {
        this.#exhausted = true;
        throw this.#refused.get((this.#sources[0] as Source).stored);
      }
      try {
        await this.#fillFrom(source);
        return;
      } catch (error) {
        if (!(error instanceof UpstreamError)) throw error;
        this.#refused.set(source.stored, error);
        this.#wake();
      }
    }
  }

  async #fillFrom(source: Source): Promise<void> {
    let breaks = 0;
    let since = this.spool.length;
    for (;;) {
      try {
        await this.#readBody(source);
        return;
      } catch (error) {
        if (!(error instanceof UpstreamError) || error.kind === 'answer' || this.#abort.signal.aborted) {
          throw error;
        }
        if (this.spool.length >= since + progress) breaks = 0;
        since = this.spool.length;
        const pauses = this.spool.length === 0 ? openingPauses : resumePauses;
        const pause = pauses[breaks];
        if (pause === undefined || (this.spool.length === 0 && final.has(error.code))) throw error;
        breaks += 1;
        this.hooks.resumed(source, this.spool.length, error);
        await sleep(pause, undefined, { signal: this.#abort.signal });
      }
    }
  }

  async #readBody(source: Source): Promise<void> {
    const { upstream, repository } = source;
    if (this.#size !== undefined && this.spool.length === this.#size) return;
    const { size, body } = await upstream.fetchBlob(
      repository,
      this.digest,
      this.spool.length,
      this.#abort.signal,
    );
    this.#agreeOnSize(size, upstream.host);
    if (this.#phase === 'opening') this.#become('filling');
    for await (const chunk of body) {
      if (this.#size !== undefined && this.spool.length + chunk.byteLength > this.#size) {
        throw new UpstreamError('invalid', upstream.host, 'sent more bytes than it declared');
      }
      await this.spool.append(chunk);
      this.hooks.grown(chunk.byteLength, source);
      this.#wake();
    }
  }

  #agreeOnSize(size: number | undefined, host: string): void {
    if (size === undefined || size === this.#size) return;
    if (this.#size !== undefined) {
      throw new UpstreamError('invalid', host, `changed the blob's size from ${this.#size} to ${size} bytes`);
    }
    this.hooks.reserve(size);
    this.#size = size;
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

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  #change(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const wake = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.delete(wake);
        reject(signal.reason as Error);
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', leave, { once: true });
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
