import * as s3 from '@aws-sdk/client-s3';
import { StorageError } from '../storage.js';
import { storageError } from './errors.js';
import { dateOfAnswer } from './looks.js';

export interface StoredObject {
  /** Without the root. */
  readonly key: string;
  /** In bytes. */
  readonly size: number;
  /** By the server's clock, in milliseconds since 1970. */
  readonly modifiedMs: number;
}

/** Where a bucket's own keys begin: `root` is empty or ends in a slash. */
export interface Place {
  readonly bucket: string;
  readonly root: string;
}

/** Objects whose keys begin like this, in the order of keys, those after `after`; a thousand at a time. */
export async function* listObjects(
  client: s3.S3Client,
  { bucket, root }: Place,
  prefix: string,
  after: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<readonly StoredObject[]> {
  let from: { StartAfter?: string; ContinuationToken?: string } | undefined =
    after === undefined ? {} : { StartAfter: root + after };
  while (from !== undefined) {
    const input = { Bucket: bucket, Prefix: root + prefix, ...from };
    const page: s3.ListObjectsV2CommandOutput = await client
      .send(new s3.ListObjectsV2Command(input), { abortSignal: signal })
      .catch((error: unknown) => {
        signal.throwIfAborted();
        throw storageError(error, `listing ${prefix}`);
      });
    yield (page.Contents ?? []).map(({ Key = '', Size = 0, LastModified }) => ({
      key: Key.slice(root.length),
      size: Size,
      modifiedMs: LastModified?.getTime() ?? Infinity, // unknown: it counts as new
    }));
    const next: string | undefined = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    if (next !== undefined && next === from.ContinuationToken) {
      throw new StorageError('io', `listing ${prefix}: the server repeats the token of a page`);
    }
    from = next === undefined ? undefined : { ContinuationToken: next };
  }
}

/**
 * The server's own time, in milliseconds since 1970, as any answer tells it (RFC 9110, section 6.6.1): the difference
 * that the client keeps for its signatures may be minutes wrong.
 */
export async function serverTime(client: s3.S3Client, bucket: string): Promise<number> {
  const command = new s3.HeadBucketCommand({ Bucket: bucket });
  const date = dateOfAnswer(command);
  try {
    await client.send(command);
  } catch (error) {
    throw storageError(error, `asking bucket ${bucket} for the time`);
  }
  const time = date();
  if (Number.isNaN(time)) throw new StorageError('io', `bucket ${bucket} does not say what time it is`);
  return time;
}
