import { rm } from 'node:fs/promises';
import type { Hash } from 'node:crypto';
import { algorithmOf, hashFor, type Digest } from '../oci/digest.js';
import { closeFile, openFile, readFromFile, storageError, syncFile, writeFully } from './filesystem/files.js';
import { DigestMismatch, StorageError, type VerifiedFile } from './storage.js';

/** So many of the newest chunks stay in memory: readers that keep up with the writer need no file for them. */
const tailChunks = 16;

/**
 * A blob's bytes on their way into the store: one writer appends and hashes, any number of readers read what is
 * there already, each at its own offset. The file has no name that anybody would look for until it is verified and
 * the store takes it; readers that are open then go on reading.
 */
export class Spool {
  readonly #hash: Hash;
  readonly #tail: { readonly start: number; readonly bytes: Uint8Array }[] = [];
  #length = 0;
  #kept = 0;
  #users = 1;

  private constructor(
    readonly digest: Digest,
    readonly path: string,
    readonly fd: number,
  ) {
    this.#hash = hashFor(digest);
  }

  static async create(digest: Digest, path: string): Promise<Spool> {
    try {
      return new Spool(digest, path, await openFile(path, 'wx+', 0o644));
    } catch (error) {
      throw storageError(error, 'creating a spool');
    }
  }

  /** Bytes that can be read. */
  get length(): number {
    return this.#length;
  }

  /** Bytes in the file: all of them, unless some were only passed on. */
  get kept(): number {
    return this.#kept;
  }

  /** Bytes that memory holds for readers. */
  get held(): number {
    const [oldest] = this.#tail;
    return oldest === undefined ? 0 : this.#length - oldest.start;
  }

  /** The chunk must not change afterwards: readers may be given it as it is. */
  async append(chunk: Uint8Array): Promise<void> {
    try {
      await writeFully(this.fd, chunk, this.#length);
    } catch (error) {
      throw storageError(error, 'writing to a spool');
    }
    this.pass(chunk);
    this.#kept = this.#length;
    if (this.#tail.length > tailChunks) this.#tail.shift();
  }

  /** Hashes the chunk and holds it in memory, and not in the file, until it is forgotten. No `append` after this. */
  pass(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#tail.push({ start: this.#length, bytes: chunk });
    this.#length += chunk.byteLength;
  }

  /** Drops from memory what no reader wants that has come to `offset`. */
  forget(offset: number): void {
    const done = this.#tail.findIndex(({ start, bytes }) => {
      const end = start + bytes.byteLength;
      return end > offset && end > this.#kept;
    });
    this.#tail.splice(0, done === -1 ? this.#tail.length : done);
  }

  /**
   * Ends the writing. Throws {@link DigestMismatch} when the bytes are not what the digest, or `size` where it is
   * known, says; StorageError `full` when the file does not have all of them. Call once.
   */
  verify(size: number | undefined): VerifiedFile {
    this.check(size);
    if (this.#kept < this.#length) throw new StorageError('full', 'a spool does not have all of its bytes');
    return { path: this.path, digest: this.digest, size: this.#length } as VerifiedFile;
  }

  /** The same for bytes wherever they are. */
  check(size: number | undefined): void {
    const found = `${algorithmOf(this.digest)}:${this.#hash.digest('hex')}`;
    if (found !== this.digest || (size !== undefined && size !== this.#length)) {
      throw new DigestMismatch(this.digest, found, size, this.#length);
    }
  }

  /** Makes the bytes survive a power cut. */
  async sync(): Promise<void> {
    try {
      await syncFile(this.fd);
    } catch (error) {
      throw storageError(error, 'flushing a spool');
    }
  }

  /**
   * At least one and at most `length` bytes from `offset`, which lies before the present length; into `buffer`, unless
   * they are in memory already.
   */
  async readAt(offset: number, length: number, buffer: Uint8Array): Promise<Uint8Array> {
    const recent = this.#fromMemory(offset, Math.min(length, buffer.byteLength), buffer);
    if (recent !== undefined) return recent;
    if (offset >= this.#kept) throw new StorageError('full', 'these bytes were passed on, and are not kept');
    try {
      const { bytesRead } = await readFromFile(
        this.fd,
        buffer,
        0,
        Math.min(length, buffer.byteLength, this.#kept - offset),
        offset,
      );
      if (bytesRead === 0) throw new StorageError('io', 'a spool is shorter than what was written to it');
      return buffer.subarray(0, bytesRead);
    } catch (error) {
      throw storageError(error, 'reading a spool');
    }
  }

  /** One chunk as it is, or several gathered in the buffer: a reader that keeps up should not send crumbs. */
  #fromMemory(offset: number, length: number, buffer: Uint8Array): Uint8Array | undefined {
    const first = this.#tail.findLastIndex(({ start }) => start <= offset);
    const recent = this.#tail[first];
    if (recent === undefined) return undefined;
    const from = offset - recent.start;
    const head = recent.bytes.subarray(from, from + length);
    if (head.byteLength === length || first === this.#tail.length - 1) return head;
    buffer.set(head);
    let filled = head.byteLength;
    for (const { bytes } of this.#tail.slice(first + 1)) {
      const part = bytes.subarray(0, length - filled);
      buffer.set(part, filled);
      filled += part.byteLength;
    }
    return buffer.subarray(0, filled);
  }

  /** Keeps the file open for one more user; `false` where the last one has closed it already. */
  retain(): boolean {
    if (this.#users === 0) return false;
    this.#users += 1;
    return true;
  }

  /** The last user to leave closes the file. Never throws: there is nothing that a reader could do about it. */
  async release(): Promise<void> {
    this.#users -= 1;
    if (this.#users === 0) await closeFile(this.fd).catch(() => undefined);
  }

  /** Removes the file unless the store took it. Readers that are open go on reading. */
  async discard(): Promise<void> {
    await rm(this.path, { force: true });
  }
}
