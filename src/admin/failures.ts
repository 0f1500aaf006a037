import { PrewarmError } from '../prewarm/image-warmer.js';
import { JobBusy, LeaseLost, Stopping } from '../scheduler/faults.js';
import { DigestMismatch, StorageError } from '../storage/storage.js';
import { RouteError } from '../upstream/directory.js';
import { UpstreamError } from '../upstream/upstream.js';
import { AdminError, type AdminCode } from './admin.js';

/** Any failure, in the words of the admin API. */
export function toAdminError(error: unknown): AdminError {
  if (error instanceof AdminError) return error;
  const cause = error;
  const is = (code: AdminCode): AdminError => new AdminError(code, (error as Error).message, { cause });
  if (error instanceof RouteError) return is(error.code === 'name-invalid' ? 'invalid' : 'unknown');
  if (error instanceof UpstreamError) return is(error.code === 'not-found' ? 'unknown' : 'upstream');
  if (error instanceof DigestMismatch) return is('upstream');
  if (error instanceof PrewarmError) return is(error.code === 'reference' ? 'invalid' : 'upstream');
  if (error instanceof StorageError) return is('storage');
  if (error instanceof JobBusy) return is('busy');
  if (error instanceof LeaseLost || error instanceof Stopping) return is('unavailable');
  return new AdminError('failed', 'it failed; the log of the mirror says why', { cause });
}
