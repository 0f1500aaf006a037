import { resolveRange, type RequestedRange } from '../../oci/range.js';
import type { OpenBlob } from '../storage.js';
import { closeFile, isAbsent, openFile, readChunks, statFile } from './files.js';

/**
 * Opens a file that holds a blob, or a range of it; `undefined` where there is none. Throws RangeUnsatisfiable, and the
 * system's own errors.
 */
export async function openBlobFile(
  path: string,
  requested: RequestedRange | undefined,
): Promise<OpenBlob | undefined> {
  const fd = await openIfThere(path);
  if (fd === undefined) return undefined;
  let opened: OpenBlob | undefined;
  try {
    const facts = await statFile(fd);
    if (!facts.isFile()) return undefined;
    const { size } = facts;
    const range = requested && resolveRange(requested, size);
    const body = readChunks(fd, range?.start ?? 0, range === undefined ? size : range.end + 1);
    opened = { size, range, body, close: () => closeFile(fd) };
    return opened;
  } finally {
    if (opened === undefined) await closeFile(fd);
  }
}

/** The file's descriptor; `undefined` where there is none. */
export async function openIfThere(path: string, flags: 'r' | 'r+' = 'r'): Promise<number | undefined> {
  try {
    return await openFile(path, flags);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
