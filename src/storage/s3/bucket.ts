import type { Readable } from 'node:stream';
import * as s3 from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import type { S3Config } from '../../config/config.js';
import type { FileLog } from '../../config/watched-file.js';
import { RangeUnsatisfiable, type RequestedRange } from '../../oci/range.js';
import { StorageError, type Admit, type OpenBlob } from '../storage.js';
import { readingClient, tlsOptions, writingClient } from './client.js';
import { isAbsent, statusOf, storageError } from './errors.js';
import { sendSigned } from './signed-request.js';
import { listObjects, serverTime, type StoredObject } from './listing.js';
import { lookAt, markName, isRotten, rotten, type Look } from './looks.js';
import { openBody, rangeHeader } from './object-body.js';
import { ObjectReads } from './object-reads.js';
import { abortedBy, copySource, Objects } from './objects.js';
import { SignedAddresses } from './signed-addresses.js';
import { Uploads } from './uploads.js';

const longestList = 1_000;
/** What S3 copies in one request, in bytes. */
const largestCopy = 5 * 1024 ** 3;

/** The end of a period: `seconds` after `fromMs`, a time of the server's clock in milliseconds since 1970. */
export interface Until {
  readonly fromMs: number;
  readonly seconds: number;
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
  readonly #objects: Objects;
  readonly #reads: ObjectReads;
  readonly addresses = new SignedAddresses((key, seconds) => this.#sign(key, seconds));
  readonly uploads: Uploads;

  constructor(config: S3Config, log: FileLog) {
    this.#reading = readingClient(config, log);
    this.#writing = writingClient(config, log);
    this.#objects = new Objects(config);
    this.#reads = new ObjectReads(this.addresses, tlsOptions(config), config.useragent ?? 'cistern');
    this.uploads = new Uploads(this.#writing, this.#objects);
  }

  close(): void {
    this.#reads.close();
    this.#reading.destroy();
    this.#writing.destroy();
  }

  /** Throws where the bucket cannot be used. */
  async probe(): Promise<void> {
    const { bucket } = this.#objects;
    try {
      await this.#reading.send(new s3.HeadBucketCommand({ Bucket: bucket }));
    } catch (error) {
      throw storageError(error, `looking for bucket ${bucket}`);
    }
  }

  /** An object's size in bytes; `undefined`: it is absent or marked as rotten. Throws StorageError where GET would be refused. */
  async head(key: string): Promise<number | undefined> {
    const found = await this.look(key);
    if (found?.isArchived === true) throw new StorageError('denied', `${key} is archived`);
    return found?.isRotten === true ? undefined : found?.size;
  }

  /** The object, whatever its mark is. */
  async look(key: string, signal?: AbortSignal): Promise<Look | undefined> {
    try {
      return await lookAt(this.#reading, this.#objects.at(key), signal);
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw storageError(error, `looking for ${key}`);
    }
  }

  /** Gives it the server's time. `false`: it is absent, or too large for one request. */
  async renew(key: string, size: number): Promise<boolean> {
    if (size > largestCopy) return false;
    const place = this.#objects.toWrite(key);
    const input = { ...place, CopySource: copySource(place), MetadataDirective: 'REPLACE' as const };
    try {
      await this.#writing.send(new s3.CopyObjectCommand(input));
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw storageError(error, `renewing ${key}`);
    }
  }

  /** One attempt to remove it: see {@link #before}. */
  removeBefore(key: string, time: Until, signal: AbortSignal): Promise<void> {
    return this.#before(time, 'DELETE', new s3.DeleteObjectCommand(this.#objects.at(key)), {}, signal);
  }

  /** One attempt to mark it as rotten: see {@link #before}. Removes an object that is too large for one copy. */
  markRottenBefore(key: string, size: number, time: Until, signal: AbortSignal): Promise<void> {
    if (size > largestCopy) return this.removeBefore(key, time, signal);
    const place = this.#objects.toWrite(key);
    const input = {
      ...place,
      CopySource: copySource(place),
      MetadataDirective: 'REPLACE' as const,
      Metadata: { [markName]: rotten },
    };
    const { ServerSideEncryption: encryption, SSEKMSKeyId: keyId } = place;
    const headers = {
      'x-amz-copy-source': input.CopySource,
      'x-amz-metadata-directive': 'REPLACE',
      [`x-amz-meta-${markName}`]: rotten,
      ...(encryption === undefined ? {} : { 'x-amz-server-side-encryption': encryption }),
      ...(keyId === undefined ? {} : { 'x-amz-server-side-encryption-aws-kms-key-id': keyId }),
    };
    return this.#before(time, 'PUT', new s3.CopyObjectCommand(input), headers, signal);
  }

  /**
   * The server itself refuses the request after this time of its own clock. A delay on the way cannot make it happen
   * later.
   */
  async #before(
    { fromMs, seconds }: Until,
    method: 'DELETE' | 'PUT',
    command: s3.DeleteObjectCommand | s3.CopyObjectCommand,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      const url = await getSignedUrl(this.#writing, command as s3.DeleteObjectCommand, {
        expiresIn: seconds,
        signingDate: new Date(fromMs),
        unhoistableHeaders: new Set(Object.keys(headers)),
      });
      await sendSigned(this.#writing, { method, url: new URL(url), headers }, signal);
    } catch (error) {
      throw storageError(error, `sending ${method} in time`);
    }
  }

  /** One request, whose body is read at the caller's pace. Throws RangeUnsatisfiable. */
  async open(key: string, range: RequestedRange | undefined): Promise<OpenBlob | undefined> {
    const found = await this.#reads.open(key, range);
    return found === 'unclear' ? this.#openBySdk(key, range) : found;
  }

  async #openBySdk(key: string, range: RequestedRange | undefined): Promise<OpenBlob | undefined> {
    const input = { ...this.#objects.at(key), ...(range === undefined ? {} : { Range: rangeHeader(range) }) };
    try {
      const found = await this.#reading.send(new s3.GetObjectCommand(input));
      const body = openBody(key, found);
      if (!isRotten(found)) return body;
      await body.close();
      return undefined;
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

  /** A whole object of at most `limit` bytes. Throws what `admit` throws. */
  async read(key: string, limit: number, admit?: Admit): Promise<Buffer | undefined> {
    const object = await this.open(key, undefined);
    if (object === undefined) return undefined;
    try {
      if (object.size > limit) {
        throw new StorageError('too-large', `${key} has ${object.size} bytes, more than ${limit}`);
      }
      await admit?.(object.size);
      const bytes = Buffer.allocUnsafe(object.size);
      let length = 0;
      for await (const chunk of object.body) {
        bytes.set(chunk, length); // its memory is used again
        length += chunk.byteLength;
      }
      return bytes.subarray(0, length);
    } finally {
      await object.close();
    }
  }

  async put(key: string, bytes: Uint8Array): Promise<void> {
    try {
      await this.#writing.send(new s3.PutObjectCommand({ ...this.#objects.toWrite(key), Body: bytes }));
    } catch (error) {
      throw storageError(error, `writing ${key}`);
    }
  }

  /** `false` where it is there already, or another one was faster. */
  async putIfAbsent(key: string, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#writing.send(
        new s3.PutObjectCommand({ ...this.#objects.toWrite(key), Body: bytes, IfNoneMatch: '*' }),
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
    const input = { ...this.#objects.toWrite(key), Body: body, ContentLength: size };
    try {
      await this.#writing.send(new s3.PutObjectCommand(input), abortedBy(signal));
    } catch (error) {
      throw storageError(error, `writing ${key}`);
    }
  }

  async remove(key: string): Promise<void> {
    try {
      await this.#writing.send(new s3.DeleteObjectCommand(this.#objects.at(key)));
    } catch (error) {
      throw storageError(error, `removing ${key}`);
    }
  }

  /** One page; `delimited`: only what is directly below the prefix. */
  async list(
    prefix: string,
    delimited: boolean,
    after?: string,
    { limit = longestList, signal }: { readonly limit?: number; readonly signal?: AbortSignal } = {},
  ): Promise<Page> {
    const below = this.#objects.below(prefix);
    try {
      const page = await this.#writing.send(
        new s3.ListObjectsV2Command({
          ...below,
          MaxKeys: limit,
          ...(delimited ? { Delimiter: '/' } : {}),
          ...(after === undefined ? {} : { ContinuationToken: after }),
        }),
        abortedBy(signal),
      );
      return {
        keys: (page.Contents ?? []).map(({ Key = '' }) => this.#objects.keyOf(Key)),
        folders: (page.CommonPrefixes ?? []).map(({ Prefix = '' }) => Prefix.slice(below.Prefix.length, -1)),
        next: page.IsTruncated === true ? page.NextContinuationToken : undefined,
      };
    } catch (error) {
      signal?.throwIfAborted();
      throw storageError(error, `listing ${prefix}`);
    }
  }

  /** See {@link listObjects}. */
  objects(
    prefix: string,
    after: string | undefined,
    signal: AbortSignal,
  ): AsyncIterable<readonly StoredObject[]> {
    const place = { bucket: this.#objects.bucket, root: this.#objects.below('').Prefix };
    return listObjects(this.#writing, place, prefix, after, signal);
  }

  /** See {@link serverTime}. */
  serverTime(): Promise<number> {
    return serverTime(this.#writing, this.#objects.bucket);
  }

  /** The time by the server's clock: signatures are only taken near to it, so the client keeps the difference. */
  now(): number {
    return Date.now() + this.#writing.config.systemClockOffset;
  }

  /** No request. `until`: when the credentials end, where they do. */
  async #sign(key: string, seconds: number): Promise<{ url: string; until: number | undefined }> {
    try {
      const { credentials, systemClockOffset } = this.#reading.config;
      const { expiration } = await credentials();
      const url = await getSignedUrl(this.#reading, new s3.GetObjectCommand(this.#objects.at(key)), {
        expiresIn: seconds,
        signingDate: new Date(Date.now() + systemClockOffset), // as the SDK dates its own requests
      });
      return { url, until: expiration?.getTime() };
    } catch (error) {
      throw storageError(error, `signing an address of ${key}`);
    }
  }
}
