import type { Readable } from 'node:stream';
import * as s3 from '@aws-sdk/client-s3';
import { StorageError } from '../storage.js';
import { statusOf, storageError } from './errors.js';
import { abortedBy, type Objects } from './objects.js';

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

/** Multipart uploads, request by request. Throws StorageError. */
export class Uploads {
  constructor(
    private readonly client: s3.S3Client,
    private readonly objects: Objects,
  ) {}

  async begin(key: string): Promise<string> {
    try {
      const input = this.objects.toWrite(key);
      const begun = await this.client.send(new s3.CreateMultipartUploadCommand(input));
      if (begun.UploadId === undefined) throw new StorageError('io', `the upload of ${key} was given no id`);
      return begun.UploadId;
    } catch (error) {
      throw storageError(error, `beginning to write ${key}`);
    }
  }

  /** `body` gives exactly `size` bytes. One attempt: a stream cannot be sent again. */
  async sendPart(
    key: string,
    uploadId: string,
    number: number,
    body: Readable,
    size: number,
    signal: AbortSignal,
  ): Promise<Part> {
    const part = { UploadId: uploadId, PartNumber: number, Body: body, ContentLength: size };
    try {
      const { ETag } = await this.client.send(
        new s3.UploadPartCommand({ ...this.objects.at(key), ...part }),
        abortedBy(signal),
      );
      if (ETag === undefined) throw new StorageError('io', `part ${number} of ${key} was not confirmed`);
      return { number, etag: ETag };
    } catch (error) {
      throw storageError(error, `writing part ${number} of ${key}`);
    }
  }

  /** After an error it may have happened all the same. */
  async complete(key: string, uploadId: string, parts: readonly Part[]): Promise<void> {
    const Parts = parts.map(({ number, etag }) => ({ PartNumber: number, ETag: etag }));
    const input = { ...this.objects.at(key), UploadId: uploadId, MultipartUpload: { Parts } };
    try {
      await this.client.send(new s3.CompleteMultipartUploadCommand(input));
    } catch (error) {
      throw storageError(error, `completing ${key}`);
    }
  }

  /** `false` where there is no such upload any more. */
  async abort(key: string, uploadId: string, signal?: AbortSignal): Promise<boolean> {
    try {
      const input = { ...this.objects.at(key), UploadId: uploadId };
      await this.client.send(new s3.AbortMultipartUploadCommand(input), abortedBy(signal));
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
        yield { key: this.objects.keyOf(Key), uploadId: UploadId, begun: Initiated };
      }
      const { IsTruncated, NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = page;
      const isLast = IsTruncated !== true || KeyMarker === undefined || UploadIdMarker === undefined;
      if (!isLast && KeyMarker === marker.KeyMarker && UploadIdMarker === marker.UploadIdMarker) {
        throw new StorageError(
          'io',
          `listing uploads of ${prefix}: the server repeats the markers of a page`,
        );
      }
      marker = isLast ? undefined : { KeyMarker, UploadIdMarker };
    }
  }

  async #unfinishedPage(
    prefix: string,
    marker: { KeyMarker?: string; UploadIdMarker?: string },
  ): Promise<s3.ListMultipartUploadsCommandOutput> {
    const input = { ...this.objects.below(prefix), ...marker };
    try {
      return await this.client.send(new s3.ListMultipartUploadsCommand(input));
    } catch (error) {
      throw storageError(error, `listing unfinished uploads of ${prefix}`);
    }
  }
}
