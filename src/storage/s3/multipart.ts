import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { waitFor } from '../../async/wait.js';
import { closeFile, openFile, readChunks } from '../filesystem/files.js';
import type { VerifiedFile } from '../storage.js';
import type { Bucket } from './bucket.js';
import { storageError } from './errors.js';
import type { Part } from './uploads.js';

/** S3's limits. */
const largestPart = 5 * 1024 ** 3;
const mostParts = 10_000;

/** A file's parts are read as they are sent, so that this and a few socket buffers are all the memory it takes. */
const partsAtOnce = 3;
const pausesMs = [200, 1_000];
const abortMs = 10_000;

/**
 * The size of a part, counted from 1. Known sizes fit into S3's 10,000 parts; where the size is not known, parts double
 * every 900, so that 10,000 of them hold S3's largest object (5 TiB).
 */
export function partSize(number: number, chunk: number, size: number | undefined): number {
  if (size !== undefined) return Math.max(chunk, Math.ceil(size / mostParts));
  return Math.min(chunk * 2 ** Math.floor((number - 1) / 900), largestPart);
}

/** Sends a file as one object, in one request; another try where that fails. */
export async function sendWhole(bucket: Bucket, key: string, file: VerifiedFile): Promise<void> {
  const fd = await openFile(file.path, 'r');
  const signal = new AbortController().signal;
  try {
    await withRetries(signal, () =>
      sending(fd, 0, file.size, signal, (body, ends) => bucket.putStream(key, body, file.size, ends)),
    );
  } finally {
    await closeFile(fd);
  }
}

/**
 * One multipart upload of a file that may still grow. Parts go out as soon as the file holds them, a few at once; the
 * first that fails ends the upload. `complete` or `abort` must follow.
 */
export class MultipartUpload {
  readonly #abort = new AbortController();
  readonly #parts: Part[] = [];
  #id: Promise<string> | undefined;
  #fd: Promise<number> | undefined;
  #planned: { readonly size: number | undefined } | undefined;
  #available = 0;
  #whole = false;
  #started = 0;
  #offset = 0;
  #running = 0;
  #failure: Error | undefined;
  #idle = Promise.withResolvers<void>();

  constructor(
    private readonly bucket: Bucket,
    private readonly key: string,
    private readonly path: string,
    private readonly chunk: number,
  ) {}

  /** Whether anything was sent. */
  get begun(): boolean {
    return this.#id !== undefined;
  }

  /** So many bytes are there; `whole`: and no more will come. Never throws and never waits. */
  grown(available: number, size: number | undefined, whole = false): void {
    this.#available = available;
    this.#whole = whole;
    this.#planned ??= { size };
    this.#advance();
  }

  /** Sends what is missing, and makes the object appear. Throws StorageError; then the upload is gone. */
  async complete(file: VerifiedFile): Promise<void> {
    try {
      this.grown(file.size, file.size, true);
      await this.#untilIdle();
      if (this.#failure !== undefined) throw this.#failure;
      await this.#settle(await this.#begin(), file.size);
    } catch (error) {
      await this.abort().catch(() => undefined); // the first error says more; what remains is swept later
      throw storageError(error, `writing ${this.key}`);
    }
    await this.#close();
  }

  /** Ends what runs and removes it at the server. Throws StorageError where that cannot be done now. */
  async abort(): Promise<void> {
    this.#failure ??= new Error('the upload was given up');
    this.#abort.abort();
    await this.#untilIdle();
    await this.#close();
    const id = await this.#id?.catch(() => undefined); // what was never begun needs no end
    if (id !== undefined) await this.bucket.uploads.abort(this.key, id, AbortSignal.timeout(abortMs));
  }

  /** An answer that is lost, late or an error does not say that it did not happen: the object itself does (rule 9). */
  async #settle(id: string, size: number): Promise<void> {
    const parts = this.#parts.toSorted((a, b) => a.number - b.number);
    try {
      await this.bucket.uploads.complete(this.key, id, parts);
    } catch (error) {
      if ((await this.bucket.head(this.key)) !== size) throw error;
      // The object may be another replica's, of equal content, and this upload may still be there.
      await this.bucket.uploads.abort(this.key, id);
    }
  }

  #advance(): void {
    while (this.#failure === undefined && this.#running < partsAtOnce) {
      const number = this.#started + 1;
      const left = this.#available - this.#offset;
      const size = partSize(number, this.chunk, this.#planned?.size);
      if (left <= 0 || (left < size && !this.#whole)) break;
      void this.#send(number, this.#offset, Math.min(left, size));
    }
    if (this.#running === 0) this.#idle.resolve();
  }

  async #untilIdle(): Promise<void> {
    if (this.#running === 0) return;
    this.#idle = Promise.withResolvers();
    await this.#idle.promise;
  }

  async #send(number: number, offset: number, size: number): Promise<void> {
    this.#started = number;
    this.#offset += size;
    this.#running += 1;
    const { signal } = this.#abort;
    try {
      this.#fd ??= openFile(this.path, 'r');
      const [id, fd] = await Promise.all([this.#begin(), this.#fd]);
      const part = await withRetries(signal, () =>
        sending(fd, offset, size, signal, (body, ends) =>
          this.bucket.uploads.sendPart(this.key, id, number, body, size, ends),
        ),
      );
      this.#parts.push(part);
    } catch (error) {
      this.#failure ??= storageError(error, `writing ${this.key}`);
      this.#abort.abort();
    } finally {
      this.#running -= 1;
      this.#advance();
    }
  }

  /** Not aborted: an upload that was begun and whose id is lost could not be removed. */
  #begin(): Promise<string> {
    this.#id ??= this.bucket.uploads.begin(this.key);
    return this.#id;
  }

  async #close(): Promise<void> {
    const fd = await this.#fd?.catch(() => undefined); // where it was never open there is nothing to close
    this.#fd = undefined;
    if (fd !== undefined) await closeFile(fd);
  }
}

/** A stream reads ahead, and the chunks' memory is used again. */
async function* copies(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) yield Buffer.from(chunk);
}

/**
 * Gives a part of a file to `send` as a stream, and ends the stream in any case. Where the file cannot be read, this
 * rejects at once, and the signal ends the request: the SDK does not listen to errors of a body.
 */
async function sending<T>(
  fd: number,
  offset: number,
  size: number,
  signal: AbortSignal,
  send: (body: Readable, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  // Not fs.createReadStream, which closes the descriptor when it is destroyed: other parts read from it too.
  const body = Readable.from(copies(readChunks(fd, offset, offset + size)), { objectMode: false });
  const unread = new AbortController();
  body.on('error', (error) => unread.abort(storageError(error, 'reading a file')));
  try {
    return await waitFor(send(body, AbortSignal.any([signal, unread.signal])), unread.signal);
  } finally {
    body.destroy();
  }
}

async function withRetries<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      const pause = pausesMs[tries];
      if (pause === undefined || signal.aborted) throw error;
      await sleep(pause, undefined, { signal });
    }
  }
}
