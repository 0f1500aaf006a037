import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { BufferPool, poolWithRoom } from '../../memory/buffer-pool.js';
import { StorageError, type Admit, type StorageCode } from '../storage.js';

// The callback interface with plain descriptors: on a warm blob it costs about half of what FileHandle does.
export const openFile = promisify(fs.open);
export const closeFile = promisify(fs.close);
export const statFile = promisify(fs.fstat);
export const syncFile = promisify(fs.fsync);
export const truncateFile = promisify(fs.ftruncate);
export const readFromFile: (
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesRead: number }> = promisify(fs.read);
export const writeToFile: (
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
) => Promise<{ bytesWritten: number }> = promisify(fs.write);

export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}

export function isAbsent(error: unknown): boolean {
  const code = errnoOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

const codes: Readonly<Record<string, StorageCode>> = {
  ENOSPC: 'full',
  EDQUOT: 'full',
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'denied',
};

/** The one translation of the system's errors into the store's. */
export function storageError(error: unknown, doing: string): StorageError {
  if (error instanceof StorageError) return error;
  const errno = errnoOf(error);
  return new StorageError(codes[errno ?? ''] ?? 'io', `${doing} failed: ${errno ?? String(error)}`, {
    cause: error,
  });
}

/** Writes all of it, however many calls that takes. */
export async function writeFully(fd: number, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const { bytesWritten } = await writeToFile(fd, bytes, done, bytes.byteLength - done, position + done);
    if (bytesWritten === 0) throw new StorageError('io', 'the file system wrote no bytes');
    done += bytesWritten;
  }
}

/**
 * A whole open file of at most `limit` bytes; `what` names it in errors. Throws StorageError, and what `admit` throws.
 */
export async function readWhole(fd: number, what: string, limit: number, admit?: Admit): Promise<Buffer> {
  const { size } = await statFile(fd).catch((error: unknown) => {
    throw storageError(error, `reading ${what}`);
  });
  if (size > limit) throw new StorageError('too-large', `${what} has ${size} bytes, more than ${limit}`);
  await admit?.(size);
  try {
    const bytes = Buffer.allocUnsafeSlow(size);
    for (let done = 0; done < size;) {
      const { bytesRead } = await readFromFile(fd, bytes, done, size - done, done);
      if (bytesRead === 0) throw new StorageError('io', `${what} became shorter while it was read`);
      done += bytesRead;
    }
    return bytes;
  } catch (error) {
    throw storageError(error, `reading ${what}`);
  }
}

/** Makes a rename in this folder survive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  const fd = await openFile(path, 'r');
  try {
    await syncFile(fd);
  } catch (error) {
    // Some network file systems do not allow it on a folder; they order renames by themselves.
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOTSUP') throw error;
  } finally {
    await closeFile(fd);
  }
}

/** Moves a file to its place, which becomes visible whole; makes the folders on the way. */
export async function moveIntoPlace(from: string, to: string): Promise<void> {
  const folder = dirname(to);
  await inFolder(folder, () => fs.promises.rename(from, to));
  try {
    await syncFolder(folder);
  } catch (error) {
    if (!isAbsent(error)) throw error; // deleted again already, with its folder
  }
}

/** Others may prune a folder between its making and its first file; so often in a row is no coincidence. */
const mostTries = 32;

/** Does something in a folder, which is made where it is not there, or is gone again. */
export async function inFolder(folder: string, work: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (!isAbsent(error) || tries === mostTries) throw error;
    }
    try {
      await fs.promises.mkdir(folder, { recursive: true });
    } catch (error) {
      if (!isAbsent(error)) throw error; // a parent was pruned meanwhile
    }
  }
}

/** What is directly in a folder, sorted; nothing where it is absent. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await fs.promises.readdir(folder)).sort();
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

/** Where a folder stays: it holds something, is a mount point, or a link to one elsewhere. */
const inUse: ReadonlySet<string | undefined> = new Set(['ENOTEMPTY', 'EEXIST', 'EBUSY', 'ENOTDIR']);

/** Removes a file, where it is there, and the folders above it that are empty then, up to `top`, which stays. */
export async function removeAndPrune(path: string, top: string): Promise<void> {
  try {
    await fs.promises.unlink(path);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  await pruneAbove(path, top);
}

/** Removes the folders above a path that are empty, up to `top`, which stays. */
export async function pruneAbove(path: string, top: string): Promise<void> {
  for (let folder = dirname(path); folder.startsWith(`${top}/`); folder = dirname(folder)) {
    try {
      await fs.promises.rmdir(folder);
    } catch (error) {
      if (inUse.has(errnoOf(error))) return;
      if (!isAbsent(error)) throw error;
    }
  }
}

/** The first readers are fast and read ahead; each of hundreds that are slow holds one small buffer. */
const chunkPools = [
  { pool: new BufferPool(256 * 1024, 16), most: 16 },
  { pool: new BufferPool(64 * 1024, 32), most: 64 },
] as const;
const smallChunks = new BufferPool(16 * 1024, 64);

/**
 * Bytes of an open file in order, `end` exclusive. A chunk is the caller's until the next is asked for. Throws when
 * the file is shorter.
 */
export async function* readChunks(fd: number, start: number, end: number): AsyncGenerator<Uint8Array> {
  const chunks = poolWithRoom(chunkPools, smallChunks);
  const readsAhead = chunks !== smallChunks;
  const first = chunks.take();
  const second = readsAhead ? chunks.take() : first;
  const read = (turn: number, position: number): Promise<{ bytesRead: number }> => {
    const length = Math.min(chunks.size, end - position);
    const reading = readFromFile(fd, turn % 2 === 0 ? first : second, 0, length, position);
    reading.catch(() => undefined); // thrown where it is awaited
    return reading;
  };
  let reading = read(0, start);
  try {
    for (let turn = 0, position = start; position < end; turn += 1) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) throw new StorageError('io', 'a file is shorter than it was when it was opened');
      position += bytesRead;
      if (readsAhead && position < end) reading = read(turn + 1, position);
      yield (turn % 2 === 0 ? first : second).subarray(0, bytesRead);
      if (!readsAhead && position < end) reading = read(turn + 1, position);
    }
  } finally {
    await reading.catch(() => undefined);
    chunks.give(first);
    if (readsAhead) chunks.give(second);
  }
}
