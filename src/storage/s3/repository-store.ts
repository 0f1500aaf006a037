import type { Digest } from '../../oci/digest.js';
import { parseTag, type Repository, type Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { walkRepositories } from '../repository-walk.js';
import type { ObserveAction, RepositoryStore } from '../storage.js';
import type { Bucket } from './bucket.js';

/** A digest with its algorithm, and room for what an editor may have left behind it. */
const longestLink = 1024;

/** Registry's link files, as small objects. Nothing but the two listings lists anything. */
export class S3RepositoryStore implements RepositoryStore {
  constructor(
    private readonly bucket: Bucket,
    private readonly observe: ObserveAction,
  ) {}

  hasLayer(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#pointsTo(layout.layerLinkPath(repository, digest), digest);
  }

  linkLayer(repository: Repository, digest: Digest): Promise<void> {
    return this.#link(layout.layerLinkPath(repository, digest), digest);
  }

  hasManifest(repository: Repository, digest: Digest): Promise<boolean> {
    return this.#pointsTo(layout.revisionLinkPath(repository, digest), digest);
  }

  linkManifest(repository: Repository, digest: Digest): Promise<void> {
    return this.#link(layout.revisionLinkPath(repository, digest), digest);
  }

  readTag(repository: Repository, tag: Tag): Promise<Digest | undefined> {
    return this.#readLink(layout.tagCurrentPath(repository, tag));
  }

  async writeTag(repository: Repository, tag: Tag, digest: Digest): Promise<void> {
    await this.#link(layout.tagIndexPath(repository, tag, digest), digest);
    await this.#link(layout.tagCurrentPath(repository, tag), digest);
  }

  /** All keys below the folder, a thousand at a time: to look into each tag would be a request for each. */
  async listTags(repository: Repository): Promise<Tag[]> {
    const below = `${layout.tagsFolder(repository)}/`;
    const tags: Tag[] = [];
    for (let next: string | undefined; ;) {
      const page = await this.#list(below, false, next);
      for (const key of page.keys) {
        const tag = parseTag(key.slice(below.length, key.indexOf('/', below.length)));
        if (tag !== undefined && key === layout.tagCurrentPath(repository, tag)) tags.push(tag);
      }
      next = page.next;
      if (next === undefined) return tags.sort();
    }
  }

  listRepositories(after: string | undefined, limit: number): Promise<Repository[]> {
    const tree = {
      names: (below: string) => this.#folders(`${layout.repositoriesFolder}/${below}`),
      holdsManifest: async (repository: Repository) => {
        const page = await this.#list(`${layout.revisionsFolder(repository)}/`, false, undefined, 1);
        return page.keys.length > 0;
      },
    };
    return walkRepositories(tree, after, limit);
  }

  async #folders(prefix: string): Promise<string[]> {
    const folders: string[] = [];
    for (let next: string | undefined; ;) {
      const page = await this.#list(prefix, true, next);
      folders.push(...page.folders);
      next = page.next;
      if (next === undefined) return folders;
    }
  }

  async #list(...parameters: Parameters<Bucket['list']>): ReturnType<Bucket['list']> {
    const started = performance.now();
    try {
      return await this.bucket.list(...parameters);
    } finally {
      this.observe('List', started);
    }
  }

  async #pointsTo(path: string, digest: Digest): Promise<boolean> {
    return (await this.#readLink(path)) === digest;
  }

  async #readLink(path: string): Promise<Digest | undefined> {
    const started = performance.now();
    try {
      const bytes = await this.bucket.read(path, longestLink);
      return bytes && layout.parseLink(bytes);
    } finally {
      this.observe('GetContent', started);
    }
  }

  async #link(path: string, digest: Digest): Promise<void> {
    const started = performance.now();
    try {
      await this.bucket.put(path, Buffer.from(digest));
    } finally {
      this.observe('PutContent', started);
    }
  }
}
