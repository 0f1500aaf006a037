import { access, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDigest, type Digest, type DigestAlgorithm } from '../../oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { inPages, mapAtOnce } from '../pages.js';
import type { Inventory, ObserveAction, StoredBlob, StoredLink } from '../storage.js';
import { isAbsent, namesIn, storageError } from './files.js';
import type { FilesystemLinks } from './links.js';
import type { WorkFolder } from './work-folder.js';

const pageLength = 1_000;
/** Enough that a network file system does not answer one by one, and few enough that clients' reads get their turn. */
const atOnce = 16;
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

  listBlobs(after: Digest | undefined, signal: AbortSignal): AsyncIterable<readonly StoredBlob[]> {
    return inPages(this.#blobs(after, signal), pageLength);
  }

  listLinks(signal: AbortSignal): AsyncIterable<readonly StoredLink[]> {
    return inPages(this.#linksBelow('', signal), pageLength);
  }

  now(): Promise<number> {
    return this.work.now();
  }

  async *#blobs(after: Digest | undefined, signal: AbortSignal): AsyncGenerator<StoredBlob[]> {
    for (const algorithm of layout.digestAlgorithms) {
      for (const pair of await this.#names(layout.digestsFolder(layout.blobsFolder, algorithm))) {
        signal.throwIfAborted();
        const start = `${algorithm}:${pair}`;
        if (!pairGrammar.test(pair) || (after !== undefined && start < after.slice(0, start.length)))
          continue;
        const digests = digestsOf(algorithm, await this.#names(layout.pairFolder(algorithm, pair)));
        const wanted = digests.filter(
          (digest) => digest.startsWith(start) && (after === undefined || digest > after),
        );
        const blobs = await mapAtOnce(wanted, atOnce, signal, (digest) => this.#blob(digest));
        yield blobs.filter((blob) => blob !== undefined);
      }
    }
  }

  async #blob(digest: Digest): Promise<StoredBlob | undefined> {
    const started = performance.now();
    try {
      const facts = await stat(join(this.root, layout.blobPath(digest)));
      return facts.isFile() ? { digest, size: facts.size, modifiedMs: facts.mtimeMs } : undefined;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw storageError(error, `looking for blob ${digest}`);
    } finally {
      this.observe('Stat', started);
    }
  }

  /** `below` is empty or ends in a slash. */
  async *#linksBelow(below: string, signal: AbortSignal): AsyncGenerator<StoredLink[]> {
    for (const name of await this.links.names(below)) {
      signal.throwIfAborted();
      const repository = parseRepository(`${below}${name}`);
      if (repository === undefined) continue; // nor can anything below it be one
      yield* this.#linksOf(repository, signal);
      yield* this.#linksBelow(`${repository}/`, signal);
    }
  }

  async *#linksOf(repository: Repository, signal: AbortSignal): AsyncGenerator<StoredLink[]> {
    for (const { kind, folder, path } of kinds) {
      for (const algorithm of layout.digestAlgorithms) {
        const names = await this.#names(layout.digestsFolder(folder(repository), algorithm));
        const links = await mapAtOnce(digestsOf(algorithm, names), atOnce, signal, async (digest) =>
          (await this.#exists(path(repository, digest))) ? { kind, repository, digest } : undefined,
        );
        yield links.filter((link) => link !== undefined);
      }
    }
    const names = await this.#names(layout.tagsFolder(repository));
    const tags = names.map(parseTag).filter((tag) => tag !== undefined);
    const links = await mapAtOnce(tags, atOnce, signal, (tag) => this.#tag(repository, tag));
    yield links.filter((link) => link !== undefined);
  }

  async #tag(repository: Repository, tag: Tag): Promise<StoredLink | undefined> {
    const digest = await this.links.read(layout.tagCurrentPath(repository, tag));
    return digest && { kind: 'tag', repository, tag, digest };
  }

  async #exists(path: string): Promise<boolean> {
    const started = performance.now();
    try {
      await access(join(this.root, path));
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw storageError(error, `looking for ${path}`);
    } finally {
      this.observe('Stat', started);
    }
  }

  async #names(folder: string): Promise<string[]> {
    const started = performance.now();
    try {
      return await namesIn(join(this.root, folder));
    } catch (error) {
      throw storageError(error, `listing ${folder}`);
    } finally {
      this.observe('List', started);
    }
  }
}

function digestsOf(algorithm: DigestAlgorithm, names: readonly string[]): Digest[] {
  return names.map((name) => parseDigest(`${algorithm}:${name}`)).filter((digest) => digest !== undefined);
}
