import type { ParsedPath } from '../oci/path.js';
import { retryLater, type RegistryError } from './errors.js';

/**
 * A refusal with `Retry-After`. Clients answer 503 by trying their next host. If the image names this mirror as its
 * host there is no next one: then 429 makes clients wait.
 */
export function refusal(parsed: ParsedPath | undefined, seconds: number, message: string): RegistryError {
  return retryLater(isOnlySource(parsed) ? 'TOOMANYREQUESTS' : 'UNAVAILABLE', seconds, message);
}

/** Whether the image names this mirror as its host (`mirror.example/ghcr.io/owner/image`). */
function isOnlySource(parsed: ParsedPath | undefined): boolean {
  if (parsed === undefined || !('name' in parsed.target)) return false;
  const { name } = parsed.target;
  return !parsed.query?.get('ns') && /[.:]/.test(name.slice(0, Math.max(0, name.indexOf('/'))));
}
