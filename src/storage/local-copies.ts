import { link, rm } from 'node:fs/promises';
import { LRUCache } from 'lru-cache';
import { within } from '../async/wait.js';
import type { Digest } from '../oci/digest.js';
import { RangeUnsatisfiable, type RequestedRange } from '../oci/range.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { openBlobFile } from './filesystem/blob-file.js';
import { storageError } from './filesystem/files.js';
import { Spool } from './spool.js';
import {
  DigestMismatch,
  StorageError,
  type Admit,
  type BlobStore,
  type EarlyUpload,
  type OpenBlob,
  type UploadsEarly,
  type VerifiedFile,
} from './storage.js';

/** In bytes: smaller ones come in one request, which a copy would hardly make faster. */
const smallest = 1024 * 1024;
/** Blobs that are copied at once, while they are read. */
const mostAtOnce = 8;
/** A disk that takes nothing for so long gets no copy. */
const slowMs = 2_000;

export interface LocalCopiesOptions {
  /** A path for a new file, on the same file system as the spools. Throws StorageError. */
  readonly newFile: (digest: Digest) => Promise<string>;
  /** Bytes that the file system has room for; `undefined` where it does not say. Throws StorageError. */
  readonly freeBytes: () => Promise<number | undefined>;
  /** Of all copies together. */
  readonly maxBytes: number;
  /** For so many milliseconds a blob that was seen in the store counts as being there. */
  readonly lifetimeMs: number;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, 'localCopiesBytes' | 'localCopyReads'>;
}

/** A blob's verified bytes, in a file of this process. */
interface Copy {
  readonly path: string;
  readonly size: number;
  /** When the store was last seen to have the blob (`performance.now()`). */
  seen: number;
}

/**
 * A store that is far away, with copies of its larger blobs on this replica's own disk: of what it fetched itself, and
 * of what somebody has read to the end. The store alone says whether a blob is there; a copy only gives its bytes. The
 * least recently used go first, all with the process.
 */
export class LocalCopies implements BlobStore, UploadsEarly {
  readonly #copies: LRUCache<Digest, Copy>;
  /** Bytes of copies that are being made. */
  readonly #coming = new Map<Digest, number>();
  readonly #endings = new Set<Promise<void>>();

  constructor(
    private readonly store: BlobStore & UploadsEarly,
    private readonly options: LocalCopiesOptions,
  ) {
    this.#copies = new LRUCache({
      maxSize: options.maxBytes,
      sizeCalculation: ({ size }) => size,
      disposeAfter: ({ path }) => void this.#remove(path),
    });
  }

  stat(digest: Digest): Promise<number | undefined> {
    return this.store.stat(digest);
  }

  read(digest: Digest, limit: number, admit?: Admit): Promise<Buffer | undefined> {
    return this.store.read(digest, limit, admit);
  }

  put(digest: Digest, bytes: Uint8Array): Promise<void> {
    return this.store.put(digest, bytes);
  }

  renew(digest: Digest): Promise<number | undefined> {
    return this.store.renew(digest);
  }

  async open(digest: Digest, range?: RequestedRange): Promise<OpenBlob | undefined> {
    const copied = await this.#openCopy(digest, range);
    if (copied !== undefined) {
      this.options.metrics.localCopyReads.inc({ result: 'hit' });
      return copied;
    }
    const seen = performance.now();
    const opened = await this.store.open(digest, range);
    if (opened === undefined || opened.size < smallest) return opened;
    this.options.metrics.localCopyReads.inc({ result: 'miss' });
    return opened.range === undefined ? this.#copyWhileRead(digest, opened, seen) : opened;
  }

  take(file: VerifiedFile): Promise<void> {
    return this.#keep(file, () => this.store.take(file));
  }

  begin(digest: Digest, path: string): EarlyUpload {
    const upload = this.store.begin(digest, path);
    return {
      grown: (length, size) => upload.grown(length, size),
      complete: (file) => this.#keep(file, () => upload.complete(file)),
      abort: () => upload.abort(),
    };
  }

  /** Settles when no copy is being finished. */
  async settled(): Promise<void> {
    await Promise.all(this.#endings);
  }

  async #openCopy(digest: Digest, range: RequestedRange | undefined): Promise<OpenBlob | undefined> {
    const copy = this.#copies.get(digest);
    if (copy === undefined) return undefined;
    if (copy.seen + this.options.lifetimeMs < performance.now()) {
      const asked = performance.now();
      if ((await this.store.stat(digest)) !== copy.size) return this.#drop(digest, copy);
      copy.seen = asked;
    }
    try {
      const opened = await openBlobFile(copy.path, range);
      if (opened?.size === copy.size) return opened;
      await opened?.close();
    } catch (err) {
      if (err instanceof RangeUnsatisfiable && err.size === copy.size) throw err;
      this.options.log.warn({ digest, err }, 'a local copy cannot be read');
    }
    return this.#drop(digest, copy);
  }

  #drop(digest: Digest, copy: Copy): undefined {
    if (this.#copies.peek(digest) === copy) this.#copies.delete(digest);
  }

  /** The same blob; when it was read to its end, and is what its digest says, there is a copy. */
  async #copyWhileRead(digest: Digest, opened: OpenBlob, seen: number): Promise<OpenBlob> {
    if (this.#coming.has(digest) || this.#coming.size >= mostAtOnce) return opened;
    const { size } = opened;
    this.#coming.set(digest, size);
    const spool = await this.#newSpool(digest, size);
    if (spool === undefined) {
      this.#coming.delete(digest);
      return opened;
    }
    const copying = new Copying(spool, opened, (err) => this.#complain(digest, err));
    return {
      size,
      range: undefined,
      body: copying.read(),
      close: async () => {
        this.#end(digest, copying, { size, seen }); // nobody waits for a copy
        await opened.close();
      },
    };
  }

  #end(digest: Digest, copying: Copying, facts: Omit<Copy, 'path'>): void {
    const ending = copying.end().then((path) => {
      this.#coming.delete(digest);
      if (path !== undefined) this.#add(digest, { path, ...facts });
      this.#endings.delete(ending);
    });
    this.#endings.add(ending);
  }

  async #newSpool(digest: Digest, size: number): Promise<Spool | undefined> {
    try {
      const path = await this.#newFile(digest, size);
      return path === undefined ? undefined : await Spool.create(digest, path);
    } catch (err) {
      this.#complain(digest, err);
      return undefined;
    }
  }

  /** A file that was verified is linked before the store, which takes it away, has it. */
  async #keep(file: VerifiedFile, store: () => Promise<void>): Promise<void> {
    const { digest, size } = file;
    const path = await this.#link(file);
    try {
      await store();
    } catch (error) {
      if (path !== undefined) await this.#remove(path);
      throw error;
    }
    if (path !== undefined) this.#add(digest, { path, size, seen: performance.now() });
  }

  async #link({ digest, size, path }: VerifiedFile): Promise<string | undefined> {
    if (size < smallest) return undefined;
    try {
      const copy = await this.#newFile(digest, size);
      if (copy !== undefined) await link(path, copy);
      return copy;
    } catch (err) {
      this.#complain(digest, storageError(err, 'linking a spool'));
      return undefined;
    }
  }

  /**
   * `undefined` where there is no room for so many bytes. The least recently used make room; all together never take
   * more than is left free.
   */
  async #newFile(digest: Digest, size: number): Promise<string | undefined> {
    const { maxBytes, newFile, freeBytes } = this.options;
    const path = await newFile(digest);
    const free = (await freeBytes()) ?? Infinity;
    const most = Math.min(maxBytes, (this.#copies.calculatedSize + free) / 2);
    let room = most - size;
    for (const [other, bytes] of this.#coming) if (other !== digest) room -= bytes;
    if (room < 0) return undefined;
    while (this.#copies.calculatedSize > room) this.#copies.pop();
    return path;
  }

  #add(digest: Digest, copy: Copy): void {
    this.#copies.set(digest, copy);
    this.#tellSize();
  }

  async #remove(path: string): Promise<void> {
    this.#tellSize();
    try {
      await rm(path, { force: true });
    } catch (err) {
      this.options.log.warn({ err }, 'a local copy cannot be removed');
    }
  }

  #tellSize(): void {
    this.options.metrics.localCopiesBytes.set(this.#copies.calculatedSize);
  }

  /** A blob is served all the same. */
  #complain(digest: Digest, err: unknown): void {
    if (err instanceof DigestMismatch) {
      this.options.log.error({ digest, err }, 'the storage gave a blob that is not what its digest says');
    } else this.options.log.warn({ digest, err }, 'no local copy of a blob');
  }
}

/** A blob on its way to somebody, of which a copy is made. */
class Copying {
  #state: 'reading' | 'read' | 'over' = 'reading';

  constructor(
    private readonly spool: Spool,
    private readonly blob: OpenBlob,
    private readonly complain: (error: unknown) => void,
  ) {}

  async *read(): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.blob.body) {
      if (this.#state === 'reading') await this.#append(chunk);
      yield chunk;
    }
    if (this.#state === 'reading') this.#state = 'read';
  }

  /** The path of a copy that is whole and verified; else nothing remains. Once; never throws. */
  async end(): Promise<string | undefined> {
    const { spool } = this;
    const isWhole = this.#state === 'read';
    this.#state = 'over';
    let path: string | undefined;
    try {
      if (isWhole) {
        spool.verify(this.blob.size);
        ({ path } = await spool.toFile());
      }
    } catch (error) {
      this.complain(error);
    }
    await spool.release();
    if (path === undefined) await spool.discard().catch((error: unknown) => this.complain(error));
    return path;
  }

  /** Waits for a disk that is behind, but not for long: the client would wait too. */
  async #append(chunk: Uint8Array): Promise<void> {
    const late = (): StorageError =>
      new StorageError('busy', `the disk of a local copy took nothing for ${slowMs} ms`);
    try {
      await within(this.spool.append(chunk), slowMs, late);
    } catch (error) {
      this.#state = 'over';
      this.complain(error);
    }
  }
}
