import { join } from 'node:path';
import { parseDigest, type Digest } from '../../oci/digest.js';
import type { Repository, Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import type { Deletes, ObserveAction } from '../storage.js';
import { namesIn, removeAndPrune, storageError } from './files.js';

/**
 * Removes files and then the folders that are empty without them, never a folder with what is in it: somebody may be
 * writing there.
 */
export class FilesystemDeletes implements Deletes {
  constructor(
    private readonly root: string,
    private readonly observe: ObserveAction,
  ) {}

  deleteBlob(digest: Digest): Promise<void> {
    return this.#remove(layout.blobPath(digest), layout.blobsFolder);
  }

  unlinkLayer(repository: Repository, digest: Digest): Promise<void> {
    return this.#remove(layout.layerLinkPath(repository, digest), layout.repositoriesFolder);
  }

  unlinkManifest(repository: Repository, digest: Digest): Promise<void> {
    return this.#remove(layout.revisionLinkPath(repository, digest), layout.repositoriesFolder);
  }

  /** Its present target first: without that it is gone, whatever of its history remains. */
  async deleteTag(repository: Repository, tag: Tag): Promise<void> {
    await this.#remove(layout.tagCurrentPath(repository, tag), layout.repositoriesFolder);
    for (const algorithm of layout.digestAlgorithms) {
      const folder = layout.digestsFolder(layout.tagIndexFolder(repository, tag), algorithm);
      for (const name of await this.#names(folder)) {
        const digest = parseDigest(`${algorithm}:${name}`);
        if (digest === undefined) continue;
        await this.#remove(layout.tagIndexPath(repository, tag, digest), layout.repositoriesFolder);
      }
    }
  }

  async #names(folder: string): Promise<string[]> {
    try {
      return await namesIn(join(this.root, folder));
    } catch (error) {
      throw storageError(error, `listing ${folder}`);
    }
  }

  /** Folders above it are pruned up to `top`, which stays. */
  async #remove(path: string, top: string): Promise<void> {
    const started = performance.now();
    try {
      await removeAndPrune(join(this.root, path), join(this.root, top));
    } catch (error) {
      throw storageError(error, `removing ${path}`);
    } finally {
      this.observe('Delete', started);
    }
  }
}
