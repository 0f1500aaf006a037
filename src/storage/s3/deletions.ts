import { randomBytes } from 'node:crypto';
import { algorithmOf, hexOf, type Digest } from '../../oci/digest.js';
import { deletionSettledMs } from '../storage.js';
import type { Bucket } from './bucket.js';

const folder = 'cistern/deleting/';
const never = new AbortController().signal;

/**
 * Deletions of content that have begun, each an object of its own. A bucket has no DELETE on the condition that the
 * content is unchanged. So the deleter announces its deletion, and then looks at the content; a writer writes or renews
 * the content, and then looks for announcements. At least one of them sees the step of the other.
 */
export class Deletions {
  constructor(private readonly bucket: Bucket) {}

  /** Returns the key that `end` takes. */
  async announce(digest: Digest): Promise<string> {
    const key = `${folderOf(digest)}${randomBytes(8).toString('hex')}`;
    await this.bucket.put(key, Buffer.alloc(0));
    return key;
  }

  /** The server has answered the deletion, or was never asked for it. */
  end(key: string): Promise<void> {
    return this.bucket.remove(key);
  }

  /** The keys of deletions that have begun and may still remove this content. */
  underWay(digest: Digest): Promise<ReadonlySet<string>> {
    return this.#forget(folderOf(digest));
  }

  /** Removes announcements of processes that have died. */
  async sweep(): Promise<void> {
    await this.#forget(folder);
  }

  /** Removes announcements that have ended, and returns the others. */
  async #forget(below: string): Promise<ReadonlySet<string>> {
    const underWay = new Set<string>();
    for await (const announced of this.bucket.objects(below, undefined, never)) {
      if (announced.length === 0) continue;
      const over = (await this.bucket.serverTime()) - deletionSettledMs;
      for (const { key, modifiedMs } of announced) {
        if (modifiedMs < over) await this.end(key);
        else underWay.add(key);
      }
    }
    return underWay;
  }
}

function folderOf(digest: Digest): string {
  return `${folder}${algorithmOf(digest)}/${hexOf(digest)}/`;
}
