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
  truncateFile,
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
      if ((await this.#holds(file)) && (await this.#renewed(file.digest)) === file.size) {
        // Replacing equal content would pull the file from under readers on other machines (NFS: ESTALE).
        await rm(file.path, { force: true });
        return;
      }
      try {
        // A deletion that began before this leaves what is written now, not what was written while it arrived.
        await truncateToItself(file.path);
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

  async renew(digest: Digest): Promise<number | undefined> {
    const started = performance.now();
    try {
      return await this.#renewed(digest);
    } catch (error) {
      throw storageError(error, `renewing blob ${digest}`);
    } finally {
      this.observe('Stat', started);
    }
  }

  async #renewed(digest: Digest): Promise<number | undefined> {
    const path = this.#path(digest);
    if (!(await truncateToItself(path))) return undefined;
    // A deletion may have renamed it before. One that renames it after this look sees the new time.
    const fd = await openIfThere(path);
    if (fd === undefined) return undefined;
    const { size } = await statFile(fd).finally(() => closeFile(fd));
    return size;
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

  /** Whether this content is stored and can be opened. If not (an input/output error), the new file replaces it. */
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

/**
 * Truncating a file to its own size is a write: the file server sets its time, whatever this host's clock says.
 * `false`: the file is absent.
 */
async function truncateToItself(path: string): Promise<boolean> {
  const fd = await openIfThere(path, 'r+');
  if (fd === undefined) return false;
  try {
    await truncateFile(fd, (await statFile(fd)).size);
    return true;
  } finally {
    await closeFile(fd);
  }
}
