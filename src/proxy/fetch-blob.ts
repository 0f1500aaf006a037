import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../oci/digest.js';
import { StorageError } from '../storage/storage.js';
import type { Route } from '../upstream/directory.js';
import type { Blobs } from './blobs.js';
import type { Transfers } from './transfers.js';
import { waitFor } from '../async/wait.js';

/** If the transfer ends before this code waits for it, it opens the blob again after `againMs`, `mostTries` in all. */
const againMs = 250;
const mostTries = 3;

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
  let fetched = 0;
  for (let tries = 1; ; tries += 1) {
    const answer = await blobs.open(route, digest, undefined, signal);
    if (answer === undefined) return undefined;
    const { outcome, size } = answer;
    const transfer = outcome === 'miss' ? await transfers.get(digest) : undefined;
    await answer.close(); // a transfer needs no reader
    if (outcome !== 'miss') return fetched;
    if (transfer !== undefined) {
      await waitFor(transfer.finished, signal);
      return transfer.length;
    }
    // The transfer has just ended: the store has the blob, unless the transfer failed.
    if (tries === mostTries)
      throw new StorageError('io', `blob ${digest} was fetched but is not in the store`);
    fetched = size ?? 0;
    await sleep(againMs, undefined, { signal });
  }
}
