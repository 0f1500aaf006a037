import { S3ServiceException } from '@aws-sdk/client-s3';
import { StorageError, type StorageCode } from '../storage.js';
import { ConnectionError } from './object-connection.js';

const absent: ReadonlySet<string> = new Set(['NoSuchKey', 'NotFound']);
const codes: Readonly<Record<string, StorageCode>> = {
  AccessDenied: 'denied',
  AccountProblem: 'denied',
  ExpiredToken: 'denied',
  InvalidAccessKeyId: 'denied',
  SignatureDoesNotMatch: 'denied',
  QuotaExceeded: 'full',
  InsufficientCapacity: 'full',
  TimeoutError: 'silent',
};

/** S3's own name for what went wrong, or the system's; `undefined` where it has none. */
function nameOf(error: unknown): string | undefined {
  if (error instanceof S3ServiceException) return error.name;
  if (error instanceof ConnectionError) return error.reason;
  if (!(error instanceof Error)) return undefined;
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}

export function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

/** The object is not there. A bucket that is not there is trouble: HEAD, which has no body, cannot tell the two apart. */
export function isAbsent(error: unknown): boolean {
  return absent.has(nameOf(error) ?? '');
}

/**
 * The one translation of S3's errors into the store's. The SDK's own error is not kept as the cause: it may carry the
 * signed request.
 */
export function storageError(error: unknown, doing: string): StorageError {
  if (error instanceof StorageError) return error;
  const name = nameOf(error) ?? 'unknown';
  const status = statusOf(error);
  const isSilent = error instanceof ConnectionError && error.code === 'silent';
  const isDenied = status === 401 || status === 403;
  const code = codes[name] ?? (isSilent ? 'silent' : isDenied ? 'denied' : 'io');
  return new StorageError(code, `${doing} failed: ${name}${status === undefined ? '' : ` (${status})`}`);
}
