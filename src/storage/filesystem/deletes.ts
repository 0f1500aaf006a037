import { randomBytes } from 'node:crypto';
import { link, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseDigest, type Digest } from '../../oci/digest.js';
import type { Repository, Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { StorageError, type Deletes, type ObserveAction } from '../storage.js';
import { errnoOf, isAbsent, namesIn, pruneAbove, removeAndPrune, storageError } from './files.js';

/** The prefix of the name that content has while a process deletes it. */
const halfDeleted = 'data.deleting-';

/**
 * Removes files and then the folders that are empty without them, never a folder with what is in it: somebody may be
 * writing there.
 */
export class FilesystemDeletes implements Deletes {
  constructor(
    private readonly root: string,
    private readonly observe: ObserveAction,
  ) {}

  /**
   * Renames the file before the last look at its time: a renewal comes before that look, or finds the content absent.
   */
  async deleteBlob(digest: Digest, writtenBy: number): Promise<boolean> {
    const started = performance.now();
    const path = join(this.root, layout.blobPath(digest));
    const aside = join(dirname(path), `${halfDeleted}${randomBytes(6).toString('hex')}`);
    try {
      const facts = await stat(path);
      if (!facts.isFile()) throw new StorageError('io', `the place of blob ${digest} is not a file`);
      if (facts.mtimeMs > writtenBy) return false;
      await rename(path, aside);
      if ((await writtenAt(aside)) > writtenBy) {
        await putBack(path);
        return false;
      }
      await rm(aside, { force: true });
    } catch (error) {
      if (!isAbsent(error)) throw storageError(error, `deleting blob ${digest}`);
    } finally {
      this.observe('Delete', started);
    }
    await pruneAbove(path, join(this.root, layout.blobsFolder));
    return true;
  }

  condemnBlob(digest: Digest, writtenBy: number): Promise<boolean> {
    return this.deleteBlob(digest, writtenBy);
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

/** Opens the file, so that a network file system asks its server. */
async function writtenAt(path: string): Promise<number> {
  await using file = await open(path);
  return (await file.stat()).mtimeMs;
}

/** Gives half-deleted content its name back: its deleter may have died. `false`: there is none. */
export async function putBack(path: string): Promise<boolean> {
  const folder = dirname(path);
  const names = (await readdir(folder)).filter((name) => name.startsWith(halfDeleted));
  const found = await Promise.all(
    names.map(async (name) => ({ aside: join(folder, name), at: await writtenAt(join(folder, name)) })),
  );
  // Renewed content comes first, and then keeps the name.
  for (const { aside } of found.toSorted((a, b) => b.at - a.at)) {
    try {
      await link(aside, path);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST' && !isAbsent(error)) throw error;
    }
    await rm(aside, { force: true });
  }
  return names.length > 0;
}
