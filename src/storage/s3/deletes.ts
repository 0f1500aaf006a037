import type { Digest } from '../../oci/digest.js';
import type { Repository, Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { mapAtOnce } from '../pages.js';
import { deletionMs, type Deletes, type ObserveAction } from '../storage.js';
import type { Bucket, Until } from './bucket.js';
import { Deletions } from './deletions.js';
import type { Look } from './looks.js';

const atOnce = 16;
const never = new AbortController().signal;

/** Removes objects. There are no folders to prune: a bucket knows keys alone. */
export class S3Deletes implements Deletes {
  readonly #deletions: Deletions;

  constructor(
    private readonly bucket: Bucket,
    private readonly observe: ObserveAction,
  ) {
    this.#deletions = new Deletions(bucket);
  }

  deleteBlob(digest: Digest, writtenBy: number): Promise<boolean> {
    return this.#announced(digest, writtenBy, (key, _look, time, signal) =>
      this.bucket.removeBefore(key, time, signal),
    );
  }

  /** Clients may hold addresses of the object: it gets a mark, and the scrub deletes it after the last address has ended. */
  condemnBlob(digest: Digest, writtenBy: number): Promise<boolean> {
    return this.#announced(digest, writtenBy, (key, { size }, time, signal) =>
      this.bucket.markRottenBefore(key, size, time, signal),
    );
  }

  unlinkLayer(repository: Repository, digest: Digest): Promise<void> {
    return this.#remove(layout.layerLinkPath(repository, digest));
  }

  unlinkManifest(repository: Repository, digest: Digest): Promise<void> {
    return this.#remove(layout.revisionLinkPath(repository, digest));
  }

  /** Its present target first: without that it is gone, whatever of its history remains. */
  async deleteTag(repository: Repository, tag: Tag): Promise<void> {
    await this.#remove(layout.tagCurrentPath(repository, tag));
    const index = `${layout.tagIndexFolder(repository, tag)}/`;
    for await (const objects of this.bucket.objects(index, undefined, never)) {
      const history = objects.filter(({ key }) => layout.parseLinkPath(key)?.kind === 'indexed');
      await mapAtOnce(history, atOnce, never, ({ key }) => this.#remove(key));
    }
  }

  async #announced(
    digest: Digest,
    writtenBy: number,
    take: (key: string, look: Look, time: Until, signal: AbortSignal) => Promise<void>,
  ): Promise<boolean> {
    const started = performance.now();
    const signal = AbortSignal.timeout(deletionMs);
    const key = layout.blobPath(digest);
    try {
      const before = await this.bucket.look(key, signal);
      if (before === undefined) return true;
      if (before.modifiedMs > writtenBy) return false;
      // After an error the announcement stays. It ends after the signature does, which counts from the first look.
      const announced = await this.#deletions.announce(digest);
      const found = await this.bucket.look(key, signal);
      const isOld = found !== undefined && found.modifiedMs <= writtenBy;
      if (isOld) await take(key, found, { fromMs: before.nowMs, seconds: deletionMs / 1000 }, signal);
      await this.#deletions.end(announced);
      return isOld || found === undefined;
    } finally {
      this.observe('Delete', started);
    }
  }

  async #remove(path: string): Promise<void> {
    const started = performance.now();
    try {
      await this.bucket.remove(path);
    } finally {
      this.observe('Delete', started);
    }
  }
}
