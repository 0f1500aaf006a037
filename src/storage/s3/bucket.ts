import { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import * as s3 from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { S3Config } from '../../config/config.js';
import { RangeUnsatisfiable, type ByteRange, type RequestedRange } from '../../oci/range.js';
import { StorageError, type OpenBlob } from '../storage.js';
import { readingClient, writingClient } from './client.js';
import { isAbsent, statusOf, storageError } from './errors.js';
import { listObjects, serverTime, type StoredObject } from './listing.js';

/** While a body is read, which a slow client may pause: only silence that is waited in counts. */
const bodyIdleMs = 15_000;
const longestList = 1_000;

/** A multipart upload that was begun and not completed. */
export interface Unfinished {
  readonly key: string;
  readonly uploadId: string;
  readonly begun: Date | undefined;
}

export interface Part {
  readonly number: number;
  readonly etag: string;
}

export interface Page {
  /** Full keys, without the root. */
  readonly keys: readonly string[];
  /** Names of what looks like folders below the prefix. */
  readonly folders: readonly string[];
  readonly next: string | undefined;
}

/**
 * The part of S3 that the stores need, below `rootdirectory`. Keys are relative to that. Throws StorageError; what is
 * absent is `undefined`.
 */
export class Bucket {
  readonly #reading: s3.S3Client;
  readonly #writing: s3.S3Client;
  readonly #bucket: string;
  readonly #prefix: string;

  constructor(private readonly config: S3Config) {
    this.#reading = readingClient(config);
    this.#writing = writingClient(config);
    this.#bucket = config.bucket;
    this.#prefix = config.rootdirectory === '' ? '' : `${config.rootdirectory}/`;
  }

  close(): void {
    this.#reading.destroy();
    this.#writing.destroy();
  }

  /** Throws where the bucket cannot be used. */
  async probe(): Promise<void> {
    try {
      await this.#reading.send(new s3.HeadBucketCommand({ Bucket: this.#bucket }));
    } catch (error) {
      throw storageError(error, `looking for bucket ${this.#bucket}`);
    }
  }

  /** An object's size in bytes. */
  async head(key: string, signal?: AbortSignal): Promise<number | undefined> {
    try {
      const found = await this.#reading.send(new s3.HeadObjectCommand(this.#object(key)), options(signal));
      return found.ContentLength ?? 0;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw storageError(error, `looking for ${key}`);
    }
  }

  /** One request, whose body is read at the caller's pace. Throws RangeUnsatisfiable. */
  async open(key: string, range: RequestedRange | undefined): Promise<OpenBlob | undefined> {
    const input = { ...this.#object(key), ...(range === undefined ? {} : { Range: rangeHeader(range) }) };
    try {
      const {
        Body,
        ContentLength = 0,
        ContentRange,
      } = await this.#reading.send(new s3.GetObjectCommand(input));
      const body = bodyOf(Body);
      body.socket?.setTimeout(0); // from now on silence is watched where somebody waits for a chunk
      const part = parseContentRange(ContentRange);
      return {
        size: part?.size ?? ContentLength,
        range: part?.range,
        body: readBody(body, key),
        close: () => Promise.resolve(void body.destroy()),
      };
    } catch (error) {
      if (isAbsent(error)) return undefined;
      if (range !== undefined && statusOf(error) === 416) return this.#unsatisfiable(key);
      throw storageError(error, `opening ${key}`);
    }
  }

  async #unsatisfiable(key: string): Promise<undefined> {
    const size = await this.head(key);
    if (size !== undefined) throw new RangeUnsatisfiable(size);
    return undefined;
  }

  /** A whole object of at most `limit` bytes. */
  async read(key: string, limit: number): Promise<Buffer | undefined> {
    const object = await this.open(key, undefined);
    if (object === undefined) return undefined;
    try {
      if (object.size > limit) {
        throw new StorageError('too-large', `${key} has ${object.size} bytes, more than ${limit}`);
      }
      const chunks: Uint8Array[] = [];
      for await (const chunk of object.body) chunks.push(chunk);
      return Buffer.concat(chunks);
    } finally {
      await object.close();
    }
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    try {
      await this.#writing.send(
        new s3.PutObjectCommand({ ...this.#object(key), ...this.#kept(), Body: bytes }),
      );
    } catch (error) {
      throw storageError(error, `writing ${key}`);
    }
  }

  /** `false` where it is there already, or another one was faster. */
  async putIfAbsent(key: string, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#writing.send(
        new s3.PutObjectCommand({ ...this.#object(key), ...this.#kept(), Body: bytes, IfNoneMatch: '*' }),
      );
      return true;
    } catch (error) {
      const status = statusOf(error);
      if (status === 412 || status === 409) return false;
      if (status !== 501) throw storageError(error, `creating ${key}`);
    }
    // A server without conditional writes: who starts at the very same moment may still win, and is then read back.
    if ((await this.head(key)) !== undefined) return false;
    await this.put(key, bytes);
    return true;
  }

  /** `body` gives exactly `size` bytes. One attempt: a stream cannot be sent again. */
  async putStream(key: string, body: Readable, size: number, signal: AbortSignal): Promise<void> {
    const input = { ...this.#object(key), ...this.#kept(), Body: body, ContentLength: size };
    try {
      await this.#writing.send(new s3.PutObjectCommand(input), options(signal));
    } catch (error) {
      throw storageError(error, `writing ${key}`);
    }
  }

  async remove(key: string): Promise<void> {
    try {
      await this.#writing.send(new s3.DeleteObjectCommand(this.#object(key)));
    } catch (error) {
      throw storageError(error, `removing ${key}`);
    }
  }

  /** One page; `delimited`: only what is directly below the prefix. */
  async list(prefix: string, delimited: boolean, after?: string, limit = longestList): Promise<Page> {
    try {
      const page = await this.#writing.send(
        new s3.ListObjectsV2Command({
          Bucket: this.#bucket,
          Prefix: this.#prefix + prefix,
          MaxKeys: limit,
          ...(delimited ? { Delimiter: '/' } : {}),
          ...(after === undefined ? {} : { ContinuationToken: after }),
        }),
      );
      const below = this.#prefix.length + prefix.length;
      return {
        keys: (page.Contents ?? []).map(({ Key = '' }) => Key.slice(this.#prefix.length)),
        folders: (page.CommonPrefixes ?? []).map(({ Prefix = '' }) => Prefix.slice(below, -1)),
        next: page.IsTruncated === true ? page.NextContinuationToken : undefined,
      };
    } catch (error) {
      throw storageError(error, `listing ${prefix}`);
    }
  }

  /** See {@link listObjects}. */
  objects(
    prefix: string,
    after: string | undefined,
    signal: AbortSignal,
  ): AsyncIterable<readonly StoredObject[]> {
    return listObjects(this.#writing, { bucket: this.#bucket, root: this.#prefix }, prefix, after, signal);
  }

  /** See {@link serverTime}. */
  serverTime(): Promise<number> {
    return serverTime(this.#writing, this.#bucket);
  }

  async beginUpload(key: string): Promise<string> {
    try {
      const input = { ...this.#object(key), ...this.#kept() };
      const begun = await this.#writing.send(new s3.CreateMultipartUploadCommand(input));
      if (begun.UploadId === undefined) throw new StorageError('io', `the upload of ${key} was given no id`);
      return begun.UploadId;
    } catch (error) {
      throw storageError(error, `beginning to write ${key}`);
    }
  }

  /** `body` gives exactly `size` bytes. One attempt: a stream cannot be sent again. */
  async uploadPart(
    key: string,
    uploadId: string,
    number: number,
    body: Readable,
    size: number,
    signal: AbortSignal,
  ): Promise<Part> {
    const part = { UploadId: uploadId, PartNumber: number, Body: body, ContentLength: size };
    try {
      const { ETag } = await this.#writing.send(
        new s3.UploadPartCommand({ ...this.#object(key), ...part }),
        options(signal),
      );
      if (ETag === undefined) throw new StorageError('io', `part ${number} of ${key} was not confirmed`);
      return { number, etag: ETag };
    } catch (error) {
      throw storageError(error, `writing part ${number} of ${key}`);
    }
  }

  /** After an error it may have happened all the same. */
  async completeUpload(key: string, uploadId: string, parts: readonly Part[]): Promise<void> {
    const Parts = parts.map(({ number, etag }) => ({ PartNumber: number, ETag: etag }));
    const input = { ...this.#object(key), UploadId: uploadId, MultipartUpload: { Parts } };
    try {
      await this.#writing.send(new s3.CompleteMultipartUploadCommand(input));
    } catch (error) {
      throw storageError(error, `completing ${key}`);
    }
  }

  /** `false` where there is no such upload any more. */
  async abortUpload(key: string, uploadId: string, signal?: AbortSignal): Promise<boolean> {
    try {
      const input = { ...this.#object(key), UploadId: uploadId };
      await this.#writing.send(new s3.AbortMultipartUploadCommand(input), options(signal));
      return true;
    } catch (error) {
      if (statusOf(error) === 404) return false;
      throw storageError(error, `giving up the upload of ${key}`);
    }
  }

  async *unfinished(prefix: string): AsyncGenerator<Unfinished> {
    let marker: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {};
    while (marker !== undefined) {
      const page = await this.#unfinishedPage(prefix, marker);
      for (const { Key = '', UploadId = '', Initiated } of page.Uploads ?? []) {
        yield { key: Key.slice(this.#prefix.length), uploadId: UploadId, begun: Initiated };
      }
      const { IsTruncated, NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = page;
      marker =
        IsTruncated === true && KeyMarker !== undefined && UploadIdMarker !== undefined
          ? { KeyMarker, UploadIdMarker }
          : undefined;
    }
  }

  async #unfinishedPage(
    prefix: string,
    marker: { KeyMarker?: string; UploadIdMarker?: string },
  ): Promise<s3.ListMultipartUploadsCommandOutput> {
    const input = { Bucket: this.#bucket, Prefix: this.#prefix + prefix, ...marker };
    try {
      return await this.#writing.send(new s3.ListMultipartUploadsCommand(input));
    } catch (error) {
      throw storageError(error, `listing unfinished uploads of ${prefix}`);
    }
  }

  /** The time by the server's clock: signatures are only taken near to it, so the client keeps the difference. */
  now(): number {
    return Date.now() + this.#writing.config.systemClockOffset;
  }

  /** No request. `until`: when the credentials end, where they do. */
  async presign(key: string, seconds: number): Promise<{ url: string; until: number | undefined }> {
    try {
      const { expiration } = await this.#reading.config.credentials();
      const command = new s3.GetObjectCommand(this.#object(key));
      const url = await getSignedUrl(this.#reading, command, { expiresIn: seconds });
      return { url, until: expiration?.getTime() };
    } catch (error) {
      throw storageError(error, `signing an address of ${key}`);
    }
  }

  #object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + key };
  }

  /** How objects are kept. */
  #kept(): Partial<s3.PutObjectCommandInput & s3.CreateMultipartUploadCommandInput> {
    const { encrypt, keyid, storageclass, objectacl } = this.config;
    return {
      ContentType: 'application/octet-stream',
      ...(encrypt ? { ServerSideEncryption: keyid === undefined ? 'AES256' : 'aws:kms' } : {}),
      ...(encrypt && keyid !== undefined ? { SSEKMSKeyId: keyid } : {}),
      ...(storageclass === undefined ? {} : { StorageClass: storageclass as s3.StorageClass }),
      ...(objectacl === undefined ? {} : { ACL: objectacl as s3.ObjectCannedACL }),
    };
  }
}

function options(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

function rangeHeader(range: RequestedRange): string {
  if ('last' in range) return `bytes=-${range.last}`;
  return `bytes=${range.start}-${range.end ?? ''}`;
}

function parseContentRange(header: string | undefined): { range: ByteRange; size: number } | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(header ?? '');
  if (match === null) return undefined;
  const [, start, end, size] = match;
  return { range: { start: Number(start), end: Number(end) }, size: Number(size) };
}

function bodyOf(body: unknown): IncomingMessage {
  if (body instanceof IncomingMessage) return body;
  throw new TypeError('the S3 client gave a body that is not the response itself');
}

/** A body's chunks. Silence counts only while somebody waits for the next one, so a slow client is not cut off. */
async function* readBody(body: IncomingMessage, key: string): AsyncGenerator<Uint8Array> {
  let waiting = false;
  const silence = setTimeout(() => {
    if (waiting) body.destroy(new StorageError('io', `${key} stopped coming for ${bodyIdleMs} ms`));
  }, bodyIdleMs);
  const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      waiting = true;
      silence.refresh();
      const { done, value } = await chunks.next();
      waiting = false;
      if (done === true) return;
      yield value;
    }
  } catch (error) {
    throw storageError(error, `reading ${key}`);
  } finally {
    clearTimeout(silence);
    body.destroy();
  }
}
