import type { Digest } from '../oci/digest.js';
import { parseRepository, type Repository, type Tag } from '../oci/name.js';
import * as layout from './layout.js';
import type { RepositoryStore } from './storage.js';

/** registry's link files, as a driver keeps them. Paths are those of layout.ts. */
export interface Links {
  read(path: string): Promise<Digest | undefined>;
  /** Replaces atomically. */
  write(path: string, digest: Digest): Promise<void>;
  /** Tags that point somewhere, sorted. */
  tags(repository: Repository): Promise<Tag[]>;
  /** Names directly below a path in the tree of repositories, which is empty or ends in a slash. */
  names(below: string): Promise<string[]>;
  holdsManifest(repository: Repository): Promise<boolean>;
}

/** Which repository has seen what, by registry's link files. */
export class LinkedRepositories implements RepositoryStore {
  constructor(private readonly links: Links) {}

  hasLayer(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#pointsTo(layout.layerLinkPath(repository, digest), digest);
  }

  linkLayer(repository: Repository, digest: Digest): Promise<void> {
    return this.links.write(layout.layerLinkPath(repository, digest), digest);
  }

  hasManifest(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#pointsTo(layout.revisionLinkPath(repository, digest), digest);
  }

  linkManifest(repository: Repository, digest: Digest): Promise<void> {
    return this.links.write(layout.revisionLinkPath(repository, digest), digest);
  }

  readTag(repository: Repository, tag: Tag): Promise<Digest | undefined> {
    return this.links.read(layout.tagCurrentPath(repository, tag));
  }

  async writeTag(repository: Repository, tag: Tag, digest: Digest): Promise<void> {
    await this.links.write(layout.tagIndexPath(repository, tag, digest), digest);
    await this.links.write(layout.tagCurrentPath(repository, tag), digest);
  }

  listTags(repository: Repository): Promise<Tag[]> {
    return this.links.tags(repository);
  }

  async listRepositories(after: string | undefined, limit: number): Promise<Repository[]> {
    const found: Repository[] = [];
    await this.#walk('', after, limit, found);
    return found;
  }

  async #pointsTo(path: string, digest: Digest): Promise<boolean> {
    return (await this.links.read(path)) === digest;
  }

  /** Depth first in the order of names, entering only folders that can still hold something after `after`. */
  async #walk(prefix: string, after: string | undefined, limit: number, found: Repository[]): Promise<void> {
    // A folder's own name sorts before what is in it, but "a-b" sorts between "a" and "a/b".
    const names = (await this.links.names(prefix))
      .flatMap((name) =>
        name.startsWith('_')
          ? []
          : [
              { key: `${prefix}${name}`, folder: false },
              { key: `${prefix}${name}/`, folder: true },
            ],
      )
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    for (const { key, folder } of names) {
      if (found.length >= limit) return;
      if (folder) {
        if (after === undefined || key > after || after.startsWith(key)) {
          await this.#walk(key, after, limit, found);
        }
        continue;
      }
      const repository = parseRepository(key);
      if (repository === undefined || (after !== undefined && repository <= after)) continue;
      if (await this.links.holdsManifest(repository)) found.push(repository);
    }
  }
}
