import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../../oci/digest.js';
import { parseTag, type Repository, type Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import type { Links } from '../linked-repositories.js';
import { mapAtOnce } from '../pages.js';
import type { ObserveAction } from '../storage.js';
import { isAbsent, moveIntoPlace, namesIn, storageError } from './files.js';
import type { WorkFolder } from './work-folder.js';

/** Bounds the number of open files: a repository may have many thousands of tags. */
const tagsAtOnce = 16;

/** Link files in a folder. */
export class FilesystemLinks implements Links {
  constructor(
    private readonly root: string,
    private readonly work: WorkFolder,
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
      return await readFile(join(this.root, path));
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw storageError(error, `reading ${path}`);
    } finally {
      this.observe('GetContent', started);
    }
  }

  async write(path: string, digest: Digest): Promise<void> {
    const started = performance.now();
    const beside = await this.work.newFile('link');
    try {
      await writeFile(beside, digest, { flag: 'wx', flush: true });
      await moveIntoPlace(beside, join(this.root, path));
    } catch (error) {
      await rm(beside, { force: true });
      throw storageError(error, `writing ${path}`);
    } finally {
      this.observe('PutContent', started);
    }
  }

  async tags(repository: Repository): Promise<Tag[]> {
    const names = await this.#list(layout.tagsFolder(repository));
    const tags = names.map(parseTag).filter((tag) => tag !== undefined);
    const current = await mapAtOnce(tags, tagsAtOnce, undefined, (tag) =>
      this.read(layout.tagCurrentPath(repository, tag)),
    );
    return tags.filter((_tag, index) => current[index] !== undefined);
  }

  async names(below: string, signal: AbortSignal): Promise<string[]> {
    signal.throwIfAborted();
    return this.#list(`${layout.repositoriesFolder}/${below}`);
  }

  async holdsManifest(repository: Repository, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    try {
      await stat(join(this.root, layout.revisionsFolder(repository)));
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw storageError(error, `looking into repository ${repository}`);
    }
  }

  async #list(path: string): Promise<string[]> {
    const started = performance.now();
    try {
      return await namesIn(join(this.root, path));
    } catch (error) {
      throw storageError(error, `listing ${path}`);
    } finally {
      this.observe('List', started);
    }
  }
}
