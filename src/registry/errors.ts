import { NoRoom } from '../memory/byte-budget.js';
import { RangeUnsatisfiable } from '../oci/range.js';
import { errorCodes, type ErrorCode } from '../oci/codes.js';
import { DigestMismatch, StorageError } from '../storage/storage.js';
import { RouteError } from '../upstream/directory.js';
import { UpstreamError } from '../upstream/upstream.js';
import type { HandlerName } from './exchange.js';

/** An error in the form of the distribution-spec ("Error Codes"). */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly status: number;
  constructor(
    readonly code: ErrorCode,
    readonly detail?: Readonly<Record<string, unknown>> | string,
    readonly headers: Readonly<Record<string, string>> = {},
    message: string = errorCodes[code].message,
  ) {
    super(message);
    this.status = errorCodes[code].status;
  }

  get body(): string {
    const { code, message, detail } = this;
    return `${JSON.stringify({ errors: [{ code, message, ...(detail === undefined ? {} : { detail }) }] })}\n`;
  }
}

/** Missing content, by what was asked for. */
export function unknownContent(handler: HandlerName, detail?: string): RegistryError {
  const codes: Partial<Record<HandlerName, ErrorCode>> = {
    manifest: 'MANIFEST_UNKNOWN',
    blob: 'BLOB_UNKNOWN',
  };
  return new RegistryError(codes[handler] ?? 'NAME_UNKNOWN', detail);
}

const busySeconds = 5;

/** The one place that turns errors into answers. Trouble is 503: clients then use their next host at once. */
export function toRegistryError(error: unknown, handler: HandlerName): RegistryError {
  if (error instanceof RegistryError) return error;
  if (error instanceof RouteError) {
    return new RegistryError(error.code === 'name-unknown' ? 'NAME_UNKNOWN' : 'NAME_INVALID', error.message);
  }
  if (error instanceof RangeUnsatisfiable) {
    return new RegistryError('RANGE_INVALID', undefined, { 'Content-Range': `bytes */${error.size}` });
  }
  if (error instanceof UpstreamError) return fromUpstream(error, handler);
  if (error instanceof DigestMismatch) {
    return unavailable('the upstream sent content that does not match its digest; nothing was stored');
  }
  if (error instanceof NoRoom)
    return unavailable('the mirror holds as much in memory as it may', busySeconds);
  if (error instanceof StorageError) {
    return storageTrouble(error);
  }
  return new RegistryError('UNKNOWN');
}

function storageTrouble({ code }: StorageError): RegistryError {
  if (code === 'busy')
    return unavailable('the mirror fetches as many blobs as it may at a time', busySeconds);
  if (code === 'full') return unavailable('the mirror has no room for this content');
  return unavailable('the storage of the mirror has trouble');
}

function fromUpstream(error: UpstreamError, handler: HandlerName): RegistryError {
  if (error.code === 'not-found') return unknownContent(handler, error.message);
  if (error.code === 'denied') return new RegistryError('DENIED', error.message);
  return unavailable(error.message, (error.retryAfterMs ?? 1_000) / 1000);
}

function unavailable(message: string, seconds = 1): RegistryError {
  return retryLater('UNAVAILABLE', seconds, message);
}

/** A refusal after which clients may ask again in so many seconds: whole ones, and one at least (RFC 9110 §10.2.3). */
export function retryLater(
  code: 'UNAVAILABLE' | 'TOOMANYREQUESTS',
  seconds: number,
  message: string,
): RegistryError {
  const headers = { 'Retry-After': String(Math.max(1, Math.ceil(seconds))) };
  return new RegistryError(code, undefined, headers, message);
}
