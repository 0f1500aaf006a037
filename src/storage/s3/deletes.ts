import type { Digest } from '../../oci/digest.js';
import type { Repository, Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { mapAtOnce } from '../pages.js';
import type { Deletes, ObserveAction } from '../storage.js';
import type { Bucket } from './bucket.js';

const atOnce = 16;
const never = new AbortController().signal;

/** Removes objects. There are no folders to prune: a bucket knows keys alone. */
export class S3Deletes implements Deletes {
  constructor(
    private readonly bucket: Bucket,
    private readonly observe: ObserveAction,
  ) {}

  deleteBlob(digest: Digest): Promise<void> {
    return this.#remove(layout.blobPath(digest));
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

  async #remove(path: string): Promise<void> {
    const started = performance.now();
    try {
      await this.bucket.remove(path);
    } finally {
      this.observe('Delete', started);
    }
  }
}
