import type { CreateMultipartUploadCommandInput, ObjectCannedACL, StorageClass } from '@aws-sdk/client-s3';
import type { S3Config } from '../../config/config.js';

/** Where objects are in the bucket, and how they are kept there. Keys are relative to `rootdirectory`. */
export class Objects {
  readonly bucket: string;
  readonly #root: string;

  constructor(private readonly config: S3Config) {
    this.bucket = config.bucket;
    this.#root = config.rootdirectory === '' ? '' : `${config.rootdirectory}/`;
  }

  at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: this.#root + key };
  }

  /** All whose key begins so. */
  below(prefix: string): { Bucket: string; Prefix: string } {
    return { Bucket: this.bucket, Prefix: this.#root + prefix };
  }

  /** The key of what S3 lists. */
  keyOf(listed: string): string {
    return listed.slice(this.#root.length);
  }

  toWrite(key: string): { Bucket: string; Key: string } & Partial<CreateMultipartUploadCommandInput> {
    const { encrypt, keyid, storageclass, objectacl } = this.config;
    return {
      ...this.at(key),
      ContentType: 'application/octet-stream',
      ...(encrypt ? { ServerSideEncryption: keyid === undefined ? 'AES256' : 'aws:kms' } : {}),
      ...(encrypt && keyid !== undefined ? { SSEKMSKeyId: keyid } : {}),
      ...(storageclass === undefined ? {} : { StorageClass: storageclass as StorageClass }),
      ...(objectacl === undefined ? {} : { ACL: objectacl as ObjectCannedACL }),
    };
  }
}

/** How a copy names what it copies (S3's API, `x-amz-copy-source`). */
export function copySource({ Bucket, Key }: { readonly Bucket: string; readonly Key: string }): string {
  return `${Bucket}/${Key.split('/').map(encodeURIComponent).join('/')}`;
}

/** The option of a request. */
export function abortedBy(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}
