import type { Dirent } from 'node:fs';
import { access, link, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ownFolder } from '../layout.js';
import { longestRecord, StorageError, type Admit, type RecordStore } from '../storage.js';
import { openIfThere } from './blob-file.js';
import {
  closeFile,
  errnoOf,
  inFolder,
  isAbsent,
  moveIntoPlace,
  readWhole,
  removeAndPrune,
  storageError,
} from './files.js';
import type { WorkFolder } from './work-folder.js';

/** Cistern's own small files, below `cistern/`. */
export class FilesystemRecordStore implements RecordStore {
  constructor(
    private readonly root: string,
    private readonly work: WorkFolder,
  ) {}

  async readRecord(key: string, limit = longestRecord, admit?: Admit): Promise<Buffer | undefined> {
    const fd = await openIfThere(this.#path(key)).catch((error: unknown) => {
      throw storageError(error, `reading record ${key}`);
    });
    if (fd === undefined) return undefined;
    try {
      return await readWhole(fd, `record ${key}`, limit, admit);
    } finally {
      await closeFile(fd);
    }
  }

  async writeRecord(key: string, bytes: Uint8Array): Promise<void> {
    const beside = await this.work.newFile('record');
    try {
      await writeFile(beside, bytes, { flag: 'wx', flush: true, mode: 0o600 });
      await moveIntoPlace(beside, this.#path(key));
    } catch (error) {
      await rm(beside, { force: true });
      throw storageError(error, `writing record ${key}`);
    }
  }

  async createRecord(key: string, bytes: Uint8Array): Promise<Buffer> {
    const path = this.#path(key);
    const beside = await this.work.newFile('record');
    try {
      await writeFile(beside, bytes, { flag: 'wx', flush: true, mode: 0o600 });
      await inFolder(dirname(path), () => link(beside, path)); // fails where it exists: the one that came first stays
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw storageError(error, `creating record ${key}`);
    } finally {
      await rm(beside, { force: true });
    }
    const made = await this.readRecord(key);
    if (made === undefined) throw new StorageError('io', `record ${key} is gone right after it was made`);
    return made;
  }

  async adopt(fileAtRoot: string, key: string): Promise<boolean> {
    const from = join(this.root, fileAtRoot);
    try {
      await access(from);
      await moveIntoPlace(from, this.#path(key));
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw storageError(error, `moving ${fileAtRoot} away`);
    }
  }

  async listRecords(below: string): Promise<string[]> {
    try {
      return (await this.#keysIn(below)).sort();
    } catch (error) {
      throw storageError(error, `listing records below ${below}`);
    }
  }

  async removeRecord(key: string): Promise<void> {
    try {
      await removeAndPrune(this.#path(key), join(this.root, ownFolder));
    } catch (error) {
      throw storageError(error, `removing record ${key}`);
    }
  }

  /** Not readdir's own recursion, which fails where a folder goes meanwhile. */
  async #keysIn(folder: string): Promise<string[]> {
    const keys: string[] = [];
    for (const entry of await entriesIn(this.#path(folder))) {
      if (entry.isDirectory()) keys.push(...(await this.#keysIn(`${folder}${entry.name}/`)));
      else if (entry.isFile()) keys.push(`${folder}${entry.name}`);
    }
    return keys;
  }

  #path(key: string): string {
    return join(this.root, ownFolder, key);
  }
}

async function entriesIn(path: string): Promise<Dirent[]> {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}
