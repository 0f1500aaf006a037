import { rm } from 'node:fs/promises';
import { algorithmOf, digestOf, type Digest } from '../../oci/digest.js';
import { pause } from '../../async/wait.js';
import type { RequestedRange } from '../../oci/range.js';
import type { Logger } from '../../telemetry/log.js';
import { blobPath, blobsFolder } from '../layout.js';
import {
  deletionSettledMs,
  DigestMismatch,
  StorageError,
  type Admit,
  type BlobStore,
  type EarlyUpload,
  type ObserveAction,
  type OpenBlob,
  type Presigned,
  type Presigns,
  type Sweeps,
  type UploadsEarly,
  type VerifiedFile,
} from '../storage.js';
import type { Bucket } from './bucket.js';
import { Deletions } from './deletions.js';
import { storageError } from './errors.js';
import { MultipartUpload, sendWhole } from './multipart.js';
import { PresignedUrls } from './presigned-urls.js';
import { lifetimeSeconds } from './signed-addresses.js';

/** A client waits for a manifest to be stored, and has it anyway where that fails. */
const putMs = 1_000;
/** The pause of a writer between two looks whether a deletion is over, in milliseconds. */
const pollMs = 100;

export interface S3BlobStoreOptions {
  readonly bucket: Bucket;
  /** Of the parts that large blobs are sent in, in bytes. */
  readonly chunkSize: number;
  /** Content that was written less than this many milliseconds ago is left by every deletion that has begun. */
  readonly youngMs: number;
  readonly log: Logger;
  readonly observe: ObserveAction;
}

/** Blobs as objects, where registry's s3 driver has them. */
export class S3BlobStore implements BlobStore, UploadsEarly, Presigns, Sweeps {
  readonly lifetimeMs = lifetimeSeconds * 1000;
  readonly #bucket: Bucket;
  readonly #deletions: Deletions;
  readonly #urls: PresignedUrls;

  constructor(private readonly options: S3BlobStoreOptions) {
    this.#bucket = options.bucket;
    this.#deletions = new Deletions(options.bucket);
    this.#urls = new PresignedUrls(options.bucket.addresses, (digest) => this.stat(digest));
  }

  stat(digest: Digest): Promise<number | undefined> {
    return this.#observed('Stat', () => this.#bucket.head(blobPath(digest)));
  }

  open(digest: Digest, range?: RequestedRange): Promise<OpenBlob | undefined> {
    return this.#observed('Reader', () => this.#bucket.open(blobPath(digest), range));
  }

  read(digest: Digest, limit: number, admit?: Admit): Promise<Buffer | undefined> {
    return this.#observed('GetContent', () => this.#bucket.read(blobPath(digest), limit, admit));
  }

  async put(digest: Digest, bytes: Uint8Array): Promise<void> {
    const found = digestOf(bytes, algorithmOf(digest));
    if (found !== digest) throw new DigestMismatch(digest, found, undefined, bytes.byteLength);
    const write = (): Promise<void> => this.#bucket.put(blobPath(digest), bytes);
    await this.#lastingly(digest, putMs, () => this.#observed('PutContent', write));
  }

  async take(file: VerifiedFile): Promise<void> {
    await this.#lastingly(file.digest, 2 * deletionSettledMs, async () => {
      if (!(await this.#holds(file)) || (await this.#renewed(file.digest)) === undefined) {
        await this.#observed('Writer', () => this.#send(file));
      }
    });
    await rm(file.path, { force: true });
  }

  async renew(digest: Digest): Promise<number | undefined> {
    const size = await this.#renewed(digest);
    // A deletion may still remove it, so it counts as absent.
    return size === undefined || (await this.#deletions.underWay(digest)).size > 0 ? undefined : size;
  }

  /** Young content is left as it is: a deletion that begins now leaves it, too. */
  async #renewed(digest: Digest): Promise<number | undefined> {
    const key = blobPath(digest);
    const found = await this.#observed('Stat', () => this.#bucket.look(key));
    if (found === undefined || found.isRotten) return undefined;
    if (found.nowMs - found.modifiedMs < this.options.youngMs) return found.size;
    const renewed = await this.#observed('Writer', () => this.#bucket.renew(key, found.size));
    return renewed ? found.size : undefined;
  }

  /**
   * Writes content, and writes it again if a deletion that began earlier removed it. A deletion that begins after the
   * write sees the new time.
   */
  async #lastingly(digest: Digest, forMs: number, write: () => Promise<void>): Promise<void> {
    const late = AbortSignal.timeout(forMs);
    for (;;) {
      await write();
      const before = await this.#deletions.underWay(digest);
      if (before.size === 0) return;
      while (!before.isDisjointFrom(await this.#deletions.underWay(digest))) {
        if (late.aborted) throw new StorageError('io', `blob ${digest} is being deleted`);
        await pause(pollMs, late);
      }
      if ((await this.stat(digest)) !== undefined) return;
    }
  }

  begin(digest: Digest, path: string): EarlyUpload {
    const upload = this.#multipart(digest, path);
    let over = false;
    return {
      grown: (length, size) => {
        if (size === undefined || size > this.options.chunkSize) upload.grown(length, size);
      },
      complete: async (file) => {
        over = true;
        const completes = upload.begun && !(await this.#holds(file)) && (await this.#completes(upload, file));
        if (!completes) await this.#giveUp(digest, upload);
        await this.take(file);
      },
      abort: async () => {
        if (over) return;
        over = true;
        await this.#giveUp(digest, upload);
      },
    };
  }

  presign(digest: Digest): Promise<Presigned | undefined> {
    return this.#observed('URLFor', () => this.#urls.get(digest));
  }

  recallPresigned(digest: Digest): Presigned | undefined {
    return this.#urls.recall(digest);
  }

  async sweepUploads(olderThanMs: number): Promise<number> {
    const before = this.#bucket.now() - olderThanMs;
    await this.#deletions.sweep();
    let removed = 0;
    for await (const { key, uploadId, begun } of this.#bucket.uploads.unfinished(`${blobsFolder}/`)) {
      if (begun === undefined || begun.getTime() > before) continue;
      if (await this.#bucket.uploads.abort(key, uploadId)) removed += 1;
    }
    return removed;
  }

  /** Whether this content is stored and readable. HEAD is not enough: GET in a cold storage class answers 403. */
  async #holds({ digest, size }: VerifiedFile): Promise<boolean> {
    try {
      if ((await this.stat(digest)) !== size) return false;
      const found = await this.open(digest);
      await found?.close();
      return found?.size === size;
    } catch {
      return false;
    }
  }

  /** `false` where the file is to be taken from its beginning. */
  async #completes(upload: MultipartUpload, file: VerifiedFile): Promise<boolean> {
    try {
      await this.#observed('Writer', () => upload.complete(file));
      return true;
    } catch (err) {
      if (!(err instanceof StorageError)) throw err;
      this.options.log.warn({ digest: file.digest, err }, 'early upload failed, starting over');
      return false;
    }
  }

  async #giveUp(digest: Digest, upload: MultipartUpload): Promise<void> {
    try {
      await upload.abort();
    } catch (err) {
      this.options.log.warn({ digest, err }, 'an unfinished upload stays until it is swept');
    }
  }

  async #send(file: VerifiedFile): Promise<void> {
    if (file.size > this.options.chunkSize) {
      await this.#multipart(file.digest, file.path).complete(file);
      return;
    }
    try {
      await sendWhole(this.#bucket, blobPath(file.digest), file);
    } catch (error) {
      throw storageError(error, `storing blob ${file.digest}`);
    }
  }

  #multipart(digest: Digest, path: string): MultipartUpload {
    return new MultipartUpload(this.#bucket, blobPath(digest), path, this.options.chunkSize);
  }

  async #observed<T>(action: Parameters<ObserveAction>[0], work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    try {
      return await work();
    } finally {
      this.options.observe(action, started);
    }
  }
}
