import type { Digest } from '../oci/digest.js';
import type { Route } from '../upstream/directory.js';
import type { Blobs } from './blobs.js';
import type { Transfers } from './transfers.js';
import { waitFor } from '../async/wait.js';

/**
 * Brings a blob into the store, the very way that a client's pull does. Returns the bytes that came from upstream, 0
 * where it is stored already; `undefined` where it is not to be had. Throws UpstreamError, StorageError,
 * DigestMismatch, and the signal's reason.
 */
export async function fetchBlob(
  { blobs, transfers }: { readonly blobs: Pick<Blobs, 'open'>; readonly transfers: Pick<Transfers, 'get'> },
  route: Route,
  digest: Digest,
  signal: AbortSignal,
): Promise<number | undefined> {
  for (let fetched = 0; ;) {
    const answer = await blobs.open(route, digest, undefined, signal);
    if (answer === undefined) return undefined;
    const { outcome, size } = answer;
    const transfer = outcome === 'miss' ? await transfers.get(digest) : undefined;
    await answer.close(); // a transfer needs no reader
    if (outcome !== 'miss') return fetched;
    if (transfer === undefined) {
      // It has just ended: what it brought is in the store now, or was not to be had.
      fetched = size ?? 0;
      continue;
    }
    await waitFor(transfer.finished, signal);
    return transfer.length;
  }
}
