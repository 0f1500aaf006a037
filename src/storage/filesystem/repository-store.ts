import { readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../../oci/digest.js';
import { parseTag, type Repository, type Tag } from '../../oci/name.js';
import * as layout from '../layout.js';
import { walkRepositories } from '../repository-walk.js';
import type { ObserveAction, RepositoryStore } from '../storage.js';
import { isAbsent, moveIntoPlace, storageError } from './files.js';
import type { WorkFolder } from './work-folder.js';

/** Registry's link files. */
export class FilesystemRepositoryStore implements RepositoryStore {
  constructor(
    private readonly root: string,
    private readonly work: WorkFolder,
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

  async listTags(repository: Repository): Promise<Tag[]> {
    const names = await this.#list(layout.tagsFolder(repository));
    const tags = names.map(parseTag).filter((tag) => tag !== undefined);
    const current = await Promise.all(tags.map((tag) => this.readTag(repository, tag)));
    return tags.filter((_tag, index) => current[index] !== undefined);
  }

  listRepositories(after: string | undefined, limit: number): Promise<Repository[]> {
    const tree = {
      names: (below: string) => this.#list(`${layout.repositoriesFolder}/${below}`),
      holdsManifest: (repository: Repository) => this.#holdsManifest(repository),
    };
    return walkRepositories(tree, after, limit);
  }

  async #holdsManifest(repository: Repository): Promise<boolean> {
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
      return (await readdir(join(this.root, path))).sort();
    } catch (error) {
      if (isAbsent(error)) return [];
      throw storageError(error, `listing ${path}`);
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
      return layout.parseLink(await readFile(join(this.root, path)));
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw storageError(error, `reading ${path}`);
    } finally {
      this.observe('GetContent', started);
    }
  }

  async #link(path: string, digest: Digest): Promise<void> {
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
}
