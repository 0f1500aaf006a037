import type { Digest } from '../../oci/digest.js';
import type { Repository, Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { inPages, mapAtOnce } from '../pages.js';
import {
  type Inventory,
  type ObserveAction,
  type SkipUnlisted,
  type StoredBlob,
  type StoredLink,
} from '../storage.js';
import type { Bucket } from './bucket.js';
import { storageError } from './errors.js';
import type { S3Links } from './links.js';
import type { StoredObject } from './listing.js';

const pageLength = 1_000;
const atOnce = 16;

/** A tag that is being listed: its keys follow one another. */
interface ListedTag {
  readonly repository: Repository;
  readonly tag: Tag;
  /** Whether it points somewhere. */
  current: boolean;
  /** The first that its history has. */
  indexed: Digest | undefined;
  /** How many it has. */
  history: number;
}

/** Lists keys, a thousand in a request. What is not named as registry names it is passed by. */
export class S3Inventory implements Inventory {
  constructor(
    private readonly bucket: Pick<Bucket, 'objects' | 'serverTime'>,
    private readonly links: Pick<S3Links, 'readSound'>,
    private readonly observe: ObserveAction,
  ) {}

  listBlobs(after: Digest | undefined, signal: AbortSignal): AsyncIterable<readonly StoredBlob[]> {
    return inPages(this.#blobs(after, signal), pageLength);
  }

  listLinks(signal: AbortSignal, skip?: SkipUnlisted): AsyncIterable<readonly StoredLink[]> {
    return inPages(this.#links(signal, skip), pageLength);
  }

  now(): Promise<number> {
    return this.bucket.serverTime();
  }

  async *#blobs(after: Digest | undefined, signal: AbortSignal): AsyncGenerator<StoredBlob[]> {
    const start = after && layout.blobPath(after);
    for await (const objects of this.#observed(`${layout.blobsFolder}/`, start, signal)) {
      yield objects.flatMap(({ key, size, modifiedMs }) => {
        const digest = layout.parseBlobPath(key);
        return digest === undefined ? [] : [{ digest, size, modifiedMs }];
      });
    }
  }

  async *#links(signal: AbortSignal, skip: SkipUnlisted | undefined): AsyncGenerator<StoredLink[]> {
    let last: ListedTag | undefined;
    for await (const objects of this.#observed(`${layout.repositoriesFolder}/`, undefined, signal)) {
      const links: StoredLink[] = [];
      const tags: ListedTag[] = last === undefined ? [] : [last];
      for (const { key } of objects) {
        const path = layout.parseLinkPath(key);
        if (path === undefined) continue;
        if ('tag' in path) note(path, tags);
        else links.push(path);
      }
      yield links;
      last = tags.pop(); // its history may go on with the next page
      yield await this.#targets(tags, signal, skip);
    }
    if (last !== undefined) yield await this.#targets([last], signal, skip);
  }

  async #targets(
    tags: readonly ListedTag[],
    signal: AbortSignal,
    skip: SkipUnlisted | undefined,
  ): Promise<StoredLink[]> {
    const current = tags.filter((tag) => tag.current);
    const links = await mapAtOnce(current, atOnce, signal, async ({ repository, tag, indexed, history }) => {
      // The index entry is written first, and goes last: where it is the only one, the tag points to it.
      const digest = history === 1 ? indexed : await this.#current(repository, tag, skip);
      return digest && { kind: 'tag' as const, repository, tag, digest };
    });
    return links.filter((link) => link !== undefined);
  }

  async #current(
    repository: Repository,
    tag: Tag,
    skip: SkipUnlisted | undefined,
  ): Promise<Digest | undefined> {
    const path = layout.tagCurrentPath(repository, tag);
    try {
      return await this.links.readSound(path);
    } catch (error) {
      if (skip === undefined) throw error;
      await skip({ path, error: storageError(error, `reading ${path}`), repository, onlyTags: true });
      return undefined;
    }
  }

  async *#observed(
    prefix: string,
    after: string | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<readonly StoredObject[]> {
    let started = performance.now();
    for await (const objects of this.bucket.objects(prefix, after, signal)) {
      this.observe('List', started);
      yield objects;
      started = performance.now();
    }
  }
}

function note(path: Extract<layout.LinkPath, { tag: Tag }>, tags: ListedTag[]): void {
  const { repository, tag } = path;
  let listed = tags.at(-1);
  if (listed?.tag !== tag || listed.repository !== repository) {
    listed = { repository, tag, current: false, indexed: undefined, history: 0 };
    tags.push(listed);
  }
  if (path.kind === 'current') {
    listed.current = true;
    return;
  }
  listed.indexed ??= path.digest;
  listed.history += 1;
}
