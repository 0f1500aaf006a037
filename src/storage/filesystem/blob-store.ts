import { copyFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { algorithmOf, digestOf, type Digest } from '../../oci/digest.js';
import { RangeUnsatisfiable, type RequestedRange } from '../../oci/range.js';
import { blobPath } from '../layout.js';
import {
  DigestMismatch,
  StorageError,
  type Admit,
  type BlobStore,
  type ObserveAction,
  type OpenBlob,
  type VerifiedFile,
} from '../storage.js';
import { openBlobFile, openIfThere } from './blob-file.js';
import {
  closeFile,
  errnoOf,
  isAbsent,
  moveIntoPlace,
  openFile,
  readWhole,
  statFile,
  storageError,
  syncFile,
  writeFully,
} from './files.js';
import type { WorkFolder } from './work-folder.js';

/** Blobs as files, safe for several processes on one folder (CephFS, NFS). */
export class FilesystemBlobStore implements BlobStore {
  constructor(
    private readonly root: string,
    private readonly work: WorkFolder,
    private readonly observe: ObserveAction,
  ) {}

  async stat(digest: Digest): Promise<number | undefined> {
    const started = performance.now();
    try {
      const facts = await stat(this.#path(digest));
      return facts.isFile() ? facts.size : undefined;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw storageError(error, `looking for blob ${digest}`);
    } finally {
      this.observe('Stat', started);
    }
  }

  async open(digest: Digest, range?: RequestedRange): Promise<OpenBlob | undefined> {
    const started = performance.now();
    try {
      return await openBlobFile(this.#path(digest), range);
    } catch (error) {
      throw error instanceof RangeUnsatisfiable ? error : storageError(error, `opening blob ${digest}`);
    } finally {
      this.observe('Reader', started);
    }
  }

  async read(digest: Digest, limit: number, admit?: Admit): Promise<Buffer | undefined> {
    const started = performance.now();
    const fd = await this.#openFd(digest);
    if (fd === undefined) return undefined;
    try {
      return await readWhole(fd, `blob ${digest}`, limit, admit);
    } finally {
      await closeFile(fd);
      this.observe('GetContent', started);
    }
  }

  async take(file: VerifiedFile): Promise<void> {
    const started = performance.now();
    try {
      if (await this.#holds(file)) {
        // Replacing equal content would pull the file from under readers on other machines (NFS: ESTALE).
        await rm(file.path, { force: true });
        return;
      }
      try {
        await moveIntoPlace(file.path, this.#path(file.digest));
      } catch (error) {
        if (errnoOf(error) !== 'EXDEV') throw error;
        await this.#copyIntoPlace(file);
      }
    } catch (error) {
      throw storageError(error, `storing blob ${file.digest}`);
    } finally {
      this.observe('Move', started);
    }
  }

  async put(digest: Digest, bytes: Uint8Array): Promise<void> {
    const found = digestOf(bytes, algorithmOf(digest));
    if (found !== digest) throw new DigestMismatch(digest, found, undefined, bytes.byteLength);
    const started = performance.now();
    const beside = await this.work.newFile('blob');
    try {
      const fd = await openFile(beside, 'wx', 0o644);
      try {
        await writeFully(fd, bytes, 0);
        await syncFile(fd);
      } finally {
        await closeFile(fd);
      }
      await moveIntoPlace(beside, this.#path(digest));
    } catch (error) {
      await rm(beside, { force: true });
      throw storageError(error, `storing blob ${digest}`);
    } finally {
      this.observe('PutContent', started);
    }
  }

  /** A file that cannot be opened, after an input/output error for example, is no reason to drop sound content. */
  async #holds({ digest, size }: VerifiedFile): Promise<boolean> {
    try {
      const found = await this.open(digest);
      await found?.close();
      return found?.size === size;
    } catch {
      return false;
    }
  }

  /** From a spool on another file system. */
  async #copyIntoPlace(file: VerifiedFile): Promise<void> {
    const beside = await this.work.newFile('blob');
    try {
      await copyFile(file.path, beside);
      const fd = await openFile(beside, 'r+');
      try {
        if ((await statFile(fd)).size !== file.size) {
          throw new StorageError('io', `the copy of blob ${file.digest} has another size`);
        }
        await syncFile(fd);
      } finally {
        await closeFile(fd);
      }
      await moveIntoPlace(beside, this.#path(file.digest));
    } finally {
      await rm(beside, { force: true });
    }
    await rm(file.path, { force: true });
  }

  async #openFd(digest: Digest): Promise<number | undefined> {
    try {
      return await openIfThere(this.#path(digest));
    } catch (error) {
      throw storageError(error, `opening blob ${digest}`);
    }
  }

  #path(digest: Digest): string {
    return join(this.root, blobPath(digest));
  }
}
