import { sweeps, type BlobStore } from './storage.js';

/** Older than this, an upload is nobody's any more. */
const abandonedAfterMs = 24 * 60 * 60_000;

/** Removes uploads that were begun and never completed, where a store has such. Returns how many there were. */
export function sweepUploads(blobs: BlobStore): Promise<number> {
  return sweeps(blobs) ? blobs.sweepUploads(abandonedAfterMs) : Promise.resolve(0);
}
