import type { Coordinator } from '../cluster/cluster.js';
import type { Digest } from '../oci/digest.js';
import type { Deletes } from '../storage/storage.js';

export interface BlobRemovalParts {
  readonly deletes: Pick<Deletes, 'deleteBlob' | 'condemnBlob'>;
  readonly coordinator: () => Coordinator;
  /** Whether this process fetches the blob now. */
  readonly transferring: (digest: Digest) => boolean;
}

/**
 * The one way in which jobs delete content: never while this process deletes or fetches the same blob, or another
 * replica holds the digest's lease. Both save work. The modification time protects the content: see {@link Deletes}.
 */
export class BlobRemoval {
  readonly #busy = new Set<Digest>();

  constructor(private readonly parts: BlobRemovalParts) {}

  /** Deletes content that was last written at this time or earlier, in milliseconds by the storage's clock. `false`: it stays. */
  delete(digest: Digest, writtenBy: number): Promise<boolean> {
    return this.#alone(digest, () => this.parts.deletes.deleteBlob(digest, writtenBy));
  }

  /** The same for content that `isRotten` confirms to be rotten. */
  condemn(digest: Digest, writtenBy: number, isRotten: () => Promise<boolean>): Promise<boolean> {
    return this.#alone(
      digest,
      async () => (await isRotten()) && this.parts.deletes.condemnBlob(digest, writtenBy),
    );
  }

  async #alone(digest: Digest, remove: () => Promise<boolean>): Promise<boolean> {
    const { coordinator, transferring } = this.parts;
    if (this.#busy.has(digest) || transferring(digest)) return false;
    this.#busy.add(digest);
    try {
      const lease = await coordinator().tryLead(`blob:${digest}`);
      if (lease === undefined) return false;
      try {
        return await remove();
      } finally {
        await lease.release(false);
      }
    } finally {
      this.#busy.delete(digest);
    }
  }
}
