import type { Digest } from '../../oci/digest.js';
import { parseTag, type Repository, type Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import type { Links } from '../linked-repositories.js';
import type { ObserveAction } from '../storage.js';
import type { Bucket } from './bucket.js';

/** A digest with its algorithm, and room for what an editor may have left behind it. */
const longestLink = 1024;

/** Link files as small objects. Nothing but the two listings lists anything. */
export class S3Links implements Links {
  constructor(
    private readonly bucket: Bucket,
    private readonly observe: ObserveAction,
  ) {}

  async read(path: string): Promise<Digest | undefined> {
    const bytes = await this.#bytes(path);
    return bytes && layout.parseLink(bytes);
  }

  /** Throws StorageError also where the link is there and holds no digest. */
  async readSound(path: string): Promise<Digest | undefined> {
    const bytes = await this.#bytes(path);
    return bytes && layout.soundLink(path, bytes);
  }

  async #bytes(path: string): Promise<Buffer | undefined> {
    const started = performance.now();
    try {
      return await this.bucket.read(path, longestLink);
    } finally {
      this.observe('GetContent', started);
    }
  }

  async write(path: string, digest: Digest): Promise<void> {
    const started = performance.now();
    try {
      await this.bucket.put(path, Buffer.from(digest));
    } finally {
      this.observe('PutContent', started);
    }
  }

  /** All keys below the folder, a thousand at a time: to look into each tag would be a request for each. */
  async tags(repository: Repository): Promise<Tag[]> {
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

  async holdsManifest(repository: Repository, signal: AbortSignal): Promise<boolean> {
    const below = `${layout.revisionsFolder(repository)}/`;
    const page = await this.#list(below, false, undefined, { limit: 1, signal });
    return page.keys.length > 0;
  }

  async names(below: string, signal: AbortSignal): Promise<string[]> {
    const folders: string[] = [];
    for (let next: string | undefined; ;) {
      const page = await this.#list(`${layout.repositoriesFolder}/${below}`, true, next, { signal });
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
}
