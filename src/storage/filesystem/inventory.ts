import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDigest, type Digest, type DigestAlgorithm } from '../../oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { inPages, mapAtOnce } from '../pages.js';
import {
  type Inventory,
  type ObserveAction,
  type SkipUnlisted,
  type StoredBlob,
  type StoredLink,
} from '../storage.js';
import { putBack } from './deletes.js';
import { isAbsent, namesIn, storageError } from './files.js';
import type { FilesystemLinks } from './links.js';
import type { WorkFolder } from './work-folder.js';

const pageLength = 1_000;
/** Enough that a network file system does not answer one by one, and few enough that clients' reads get their turn. */
const atOnce = 16;
/** Ends the listing. */
const skipNothing: SkipUnlisted = ({ error }) => Promise.reject(error);
const pairGrammar = /^[0-9a-f]{2}$/;
const kinds = [
  { kind: 'layer', folder: layout.layersFolder, path: layout.layerLinkPath },
  { kind: 'manifest', folder: layout.revisionsFolder, path: layout.revisionLinkPath },
] as const;

/** Walks the folders. What is not named as registry names it is passed by. */
export class FilesystemInventory implements Inventory {
  constructor(
    private readonly root: string,
    private readonly work: WorkFolder,
    private readonly links: FilesystemLinks,
    private readonly observe: ObserveAction,
  ) {}

  listBlobs(
    after: Digest | undefined,
    signal: AbortSignal,
    skip = skipNothing,
  ): AsyncIterable<readonly StoredBlob[]> {
    return inPages(this.#blobs(after, signal, skip), pageLength);
  }

  listLinks(signal: AbortSignal, skip = skipNothing): AsyncIterable<readonly StoredLink[]> {
    return inPages(this.#links(signal, skip), pageLength);
  }

  now(): Promise<number> {
    return this.work.now();
  }

  async *#blobs(
    after: Digest | undefined,
    signal: AbortSignal,
    skip: SkipUnlisted,
  ): AsyncGenerator<StoredBlob[]> {
    for (const algorithm of layout.digestAlgorithms) {
      for (const pair of await this.#names(layout.digestsFolder(layout.blobsFolder, algorithm), skip)) {
        signal.throwIfAborted();
        const start = `${algorithm}:${pair}`;
        if (!pairGrammar.test(pair) || (after !== undefined && start < after.slice(0, start.length)))
          continue;
        const digests = digestsOf(algorithm, await this.#names(layout.pairFolder(algorithm, pair), skip));
        const wanted = digests.filter(
          (digest) => digest.startsWith(start) && (after === undefined || digest > after),
        );
        const blobs = await mapAtOnce(wanted, atOnce, signal, (digest) => this.#blob(digest, skip));
        yield blobs.filter((blob) => blob !== undefined);
      }
    }
  }

  async #blob(digest: Digest, skip: SkipUnlisted): Promise<StoredBlob | undefined> {
    const started = performance.now();
    const path = join(this.root, layout.blobPath(digest));
    try {
      const facts = await stat(path).catch(async (error: unknown) => {
        if (isAbsent(error) && (await putBack(path))) return stat(path);
        throw error;
      });
      return facts.isFile() ? { digest, size: facts.size, modifiedMs: facts.mtimeMs } : undefined;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      await skip({
        path: layout.blobPath(digest),
        error: storageError(error, `looking for blob ${digest}`),
      });
      return undefined;
    } finally {
      this.observe('Stat', started);
    }
  }

  async *#links(signal: AbortSignal, skip: SkipUnlisted): AsyncGenerator<StoredLink[]> {
    // Names have a limit, so this is no longer than the folders on the way to one repository hold.
    const waiting = [''];
    for (let below = waiting.pop(); below !== undefined; below = waiting.pop()) {
      for (const name of await this.#names(`${layout.repositoriesFolder}/${below}`, skip)) {
        signal.throwIfAborted();
        const repository = parseRepository(`${below}${name}`);
        if (repository === undefined) continue; // nor can anything below it be one
        yield* this.#linksOf(repository, signal, skip);
        waiting.push(`${repository}/`);
      }
    }
  }

  async *#linksOf(
    repository: Repository,
    signal: AbortSignal,
    skip: SkipUnlisted,
  ): AsyncGenerator<StoredLink[]> {
    const skipHere: SkipUnlisted = (part) => skip({ ...part, repository });
    for (const { kind, folder, path } of kinds) {
      for (const algorithm of layout.digestAlgorithms) {
        const names = await this.#names(layout.digestsFolder(folder(repository), algorithm), skipHere);
        const links = await mapAtOnce(digestsOf(algorithm, names), atOnce, signal, async (digest) =>
          (await this.#exists(path(repository, digest))) ? { kind, repository, digest } : undefined,
        );
        yield links.filter((link) => link !== undefined);
      }
    }
    const skipTags: SkipUnlisted = (part) => skip({ ...part, repository, onlyTags: true });
    const names = await this.#names(layout.tagsFolder(repository), skipTags);
    const tags = names.map(parseTag).filter((tag) => tag !== undefined);
    const links = await mapAtOnce(tags, atOnce, signal, (tag) => this.#tag(repository, tag, skipTags));
    yield links.filter((link) => link !== undefined);
  }

  async #tag(repository: Repository, tag: Tag, skip: SkipUnlisted): Promise<StoredLink | undefined> {
    const path = layout.tagCurrentPath(repository, tag);
    try {
      const digest = await this.links.readSound(path);
      return digest && { kind: 'tag', repository, tag, digest };
    } catch (error) {
      await skip({ path, error: storageError(error, `reading ${path}`) });
    }
    return undefined;
  }

  async #exists(path: string): Promise<boolean> {
    const started = performance.now();
    try {
      await access(join(this.root, path));
      return true;
    } catch (error) {
      // A folder that cannot be looked into has its name all the same: the link counts as there.
      return !isAbsent(error);
    } finally {
      this.observe('Stat', started);
    }
  }

  async #names(folder: string, skip: SkipUnlisted): Promise<string[]> {
    const started = performance.now();
    try {
      return await namesIn(join(this.root, folder));
    } catch (error) {
      await skip({ path: folder, error: storageError(error, `listing ${folder}`) });
      return [];
    } finally {
      this.observe('List', started);
    }
  }
}

function digestsOf(algorithm: DigestAlgorithm, names: readonly string[]): Digest[] {
  return names.map((name) => parseDigest(`${algorithm}:${name}`)).filter((digest) => digest !== undefined);
}
