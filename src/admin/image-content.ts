import { references } from '../oci/manifest.js';
import type { Digest } from '../oci/digest.js';
import type { BlobStore } from '../storage/storage.js';
import { longestManifest } from '../upstream/upstream.js';

/** All content of an image that is here, what names it first. Throws StorageError. */
export async function contentOf(blobs: BlobStore, root: Digest, signal: AbortSignal): Promise<Digest[]> {
  const found = new Set([root]);
  const manifests = [root];
  for (let digest = manifests.pop(); digest !== undefined; digest = manifests.pop()) {
    signal.throwIfAborted();
    const bytes = await blobs.read(digest, longestManifest);
    for (const { kind, digest: named } of bytes === undefined ? [] : references(bytes)) {
      if (found.has(named)) continue;
      found.add(named);
      if (kind === 'manifest') manifests.push(named);
    }
  }
  return [...found];
}
