import type { Coordinator } from '../cluster/cluster.js';
import type { Digest } from '../oci/digest.js';
import type { Deletes } from '../storage/storage.js';

export interface BlobRemovalParts {
  readonly deletes: Pick<Deletes, 'deleteBlob' | 'condemnBlob'>;
  readonly coordinator: () => Coordinator;
  /** Whether this process is fetching it right now. */
  readonly transferring: (digest: Digest) => boolean;
}

/**
 * The one way in which jobs take content away: never while this process removes or fetches the same, nor while another
 * replica has the digest's lease. That saves work. What keeps content is its own time: see {@link Deletes}.
 */
export class BlobRemoval {
  readonly #busy = new Set<Digest>();

  constructor(private readonly parts: BlobRemovalParts) {}

  /** What was last written at this time at the latest, in milliseconds by the storage's clock. `false`: it stays. */
  delete(digest: Digest, writtenBy: number): Promise<boolean> {
    return this.#alone(digest, () => this.parts.deletes.deleteBlob(digest, writtenBy));
  }

  /** The same for what `isRotten` finds once more to be so. */
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
