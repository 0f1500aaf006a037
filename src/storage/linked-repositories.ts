import type { Digest } from '../oci/digest.js';
import { parseRepository, type Repository, type Tag } from '../oci/name.js';
import * as layout from './layout.js';
import { RepositoryList } from './repository-list.js';
import { recordAdded } from './repository-records.js';
import type { RecordStore, RepositoryStore } from './storage.js';

/** registry's link files, as a driver keeps them. Paths are those of layout.ts. */
export interface Links {
  read(path: string): Promise<Digest | undefined>;
  /** Replaces atomically. */
  write(path: string, digest: Digest): Promise<void>;
  /** Tags that point somewhere, sorted. */
  tags(repository: Repository): Promise<Tag[]>;
  /** Names directly below a path in the tree of repositories, which is empty or ends in a slash. */
  names(below: string, signal: AbortSignal): Promise<string[]>;
  holdsManifest(repository: Repository, signal: AbortSignal): Promise<boolean>;
}

/** Which repository has seen what, by registry's link files. */
export class LinkedRepositories implements RepositoryStore {
  readonly #list: RepositoryList;

  constructor(
    private readonly links: Links,
    private readonly records: RecordStore,
  ) {
    this.#list = new RepositoryList(records, (after, limit, signal) => this.#walk(after, limit, signal));
  }

  hasLayer(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#pointsTo(layout.layerLinkPath(repository, digest), digest);
  }

  linkLayer(repository: Repository, digest: Digest): Promise<void> {
    return this.links.write(layout.layerLinkPath(repository, digest), digest);
  }

  hasManifest(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#pointsTo(layout.revisionLinkPath(repository, digest), digest);
  }

  async linkManifest(repository: Repository, digest: Digest): Promise<void> {
    await this.links.write(layout.revisionLinkPath(repository, digest), digest);
    await recordAdded(this.records, repository);
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

  listRepositories(
    after: string | undefined,
    enough: number,
    signal: AbortSignal,
  ): AsyncIterable<readonly Repository[]> {
    return this.#list.pages(after, enough, signal);
  }

  async #pointsTo(path: string, digest: Digest): Promise<boolean> {
    return (await this.links.read(path)) === digest;
  }

  async #walk(after: string | undefined, limit: number, signal: AbortSignal): Promise<Repository[]> {
    const found: Repository[] = [];
    await this.#enter('', { after, limit, found, signal });
    return found;
  }

  /** Depth first in the order of names, into those folders only that can still hold something after `after`. */
  async #enter(prefix: string, walk: Walk): Promise<void> {
    const { after, limit, found, signal } = walk;
    // A folder's own name sorts before what is in it, but "a-b" sorts between "a" and "a/b".
    const names = (await this.links.names(prefix, signal))
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
          await this.#enter(key, walk);
        }
        continue;
      }
      const repository = parseRepository(key);
      if (repository === undefined || (after !== undefined && repository <= after)) continue;
      if (await this.links.holdsManifest(repository, signal)) found.push(repository);
    }
  }
}

interface Walk {
  readonly after: string | undefined;
  readonly limit: number;
  readonly found: Repository[];
  readonly signal: AbortSignal;
}
