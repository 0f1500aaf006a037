import * as s3 from '@aws-sdk/client-s3';

/**
 * Cistern's own metadata of an object, which S3 sends as a header with the prefix `x-amz-meta-`. Rotten content does not
 * match its digest: it counts as absent.
 */
export const markName = 'cistern';
export const rotten = 'rotten';

export function isRotten({
  Metadata,
}: {
  readonly Metadata?: Readonly<Record<string, string>> | undefined;
}): boolean {
  return Metadata?.[markName] === rotten;
}

/** The facts that a HEAD returns about an object. */
export interface Look {
  /** In bytes. */
  readonly size: number;
  /** When it was written, in milliseconds since 1970 by the server's clock. */
  readonly modifiedMs: number;
  /** The time of the server's answer by the same clock. */
  readonly nowMs: number;
  readonly isRotten: boolean;
  /** The server refuses GET until an operator restores the object. */
  readonly isArchived: boolean;
}

/** Throws the SDK's errors, also where the object is absent. */
export async function lookAt(
  client: s3.S3Client,
  place: { readonly Bucket: string; readonly Key: string },
  signal: AbortSignal | undefined,
): Promise<Look> {
  const command = new s3.HeadObjectCommand(place);
  const date = dateOfAnswer(command);
  const found = await client.send(command, signal === undefined ? {} : { abortSignal: signal });
  return {
    size: found.ContentLength ?? 0,
    modifiedMs: found.LastModified?.getTime() ?? Infinity, // unknown: it counts as new
    nowMs: date(),
    isRotten: isRotten(found),
    isArchived: isArchived(found),
  };
}

/** Keeps the `Date` of the command's answer (RFC 9110, section 6.6.1), in milliseconds since 1970; NaN without one. */
export function dateOfAnswer(command: s3.HeadObjectCommand | s3.HeadBucketCommand): () => number {
  let date: string | undefined;
  (command as unknown as s3.HeadBucketCommand).middlewareStack.add(
    (next) => async (input) => {
      const answer = await next(input);
      date = dateOf(answer.response);
      return answer;
    },
    { step: 'deserialize' },
  );
  return () => Date.parse(date ?? '');
}

function dateOf(response: unknown): string | undefined {
  if (typeof response !== 'object' || response === null || !('headers' in response)) return undefined;
  return (response.headers as Readonly<Record<string, string | undefined>>)['date'];
}

const coldClasses: ReadonlySet<string> = new Set(['GLACIER', 'DEEP_ARCHIVE']);

/** Whether the object must be restored before it can be read (Amazon S3 API, HeadObject, "x-amz-restore"). */
function isArchived({ StorageClass, ArchiveStatus, Restore }: s3.HeadObjectCommandOutput): boolean {
  const isCold = coldClasses.has(StorageClass ?? '') || ArchiveStatus !== undefined;
  return isCold && Restore?.includes('ongoing-request="false"') !== true;
}
