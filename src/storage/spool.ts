import { rm } from 'node:fs/promises';
import type { Hash } from 'node:crypto';
import { algorithmOf, hashFor, type Digest } from '../oci/digest.js';
import { closeFile, openFile, readFromFile, storageError, syncFile, writeFully } from './filesystem/files.js';
import { lendBuffer, MemoryBlock, type Lent } from './memory-block.js';
import { DigestMismatch, StorageError, type VerifiedFile } from './storage.js';

/** So many of the newest blocks stay in memory: readers that keep up with the writer need no file for them. */
const keptBlocks = 2;
/** The writer waits for the file when it is so far ahead of it. */
const mostBlocks = 4;

/**
 * A blob's bytes on their way into the store: one writer appends and hashes, any number of readers read what is
 * there already, each at its own offset. Bytes are gathered in memory, where readers may have them at once, and
 * written to the file block by block behind the writer's back. The file has no name that anybody would look for until
 * it is verified and the store takes it; readers that are open then go on reading.
 */
export class Spool {
  readonly #hash: Hash;
  /** In order and without a gap, up to the end. */
  readonly #blocks: MemoryBlock[] = [];
  #length = 0;
  #kept = 0;
  /** What is beyond goes to no file. */
  #fileEnd = Infinity;
  #isVerified = false;
  #users = 1;
  #writing = Promise.resolve();
  #isWriting = false;
  #failure: StorageError | undefined;
  /** Of each block that was written, or could not be. */
  #progress = Promise.withResolvers<void>();

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

  /** Bytes in the file. */
  get kept(): number {
    return this.#kept;
  }

  /** Bytes that memory holds for readers. */
  get held(): number {
    const [oldest] = this.#blocks;
    return oldest === undefined ? 0 : this.#length - oldest.start;
  }

  /**
   * Takes a copy, which can be read at once; settles when there is room for more. Throws what kept earlier bytes from
   * the file: this chunk was not taken then.
   */
  async append(chunk: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#take(chunk);
    this.#write();
    while (this.#blocks.length > mostBlocks && this.#isWriting) await this.#progress.promise;
  }

  /** Hashes the chunk and holds it in memory, and not in the file, until it is forgotten. No `append` after this. */
  pass(chunk: Uint8Array): void {
    this.#fileEnd = Math.min(this.#fileEnd, this.#length);
    this.#take(chunk);
  }

  #take(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    for (let rest = chunk; rest.byteLength > 0;) {
      let block = this.#blocks.at(-1);
      if (block === undefined || block.isFull) {
        block = new MemoryBlock(this.#length);
        this.#blocks.push(block);
      }
      const taken = block.add(rest);
      this.#length += taken;
      rest = rest.subarray(taken);
    }
  }

  /** Drops from memory what no reader wants that has come to `offset`. */
  forget(offset: number): void {
    const done = Math.max(offset, this.#kept);
    for (let [oldest] = this.#blocks; oldest !== undefined && oldest.end <= done; [oldest] = this.#blocks) {
      this.#blocks.shift();
      oldest.release();
    }
  }

  /**
   * Ends the writing. Throws {@link DigestMismatch} when the bytes are not what the digest, or `size` where it is
   * known, says. Call once.
   */
  verify(size: number | undefined): void {
    const found = `${algorithmOf(this.digest)}:${this.#hash.digest('hex')}`;
    if (found !== this.digest || (size !== undefined && size !== this.#length)) {
      throw new DigestMismatch(this.digest, found, size, this.#length);
    }
    this.#isVerified = true;
  }

  /**
   * The file with all that was verified, which survives a power cut from now on. Throws StorageError: `full` when it
   * does not have all of it.
   */
  async toFile(): Promise<VerifiedFile> {
    if (!this.#isVerified) throw new StorageError('io', 'a spool was not verified');
    await this.#writing; // which began before it was known that the last block is the last
    this.#write();
    await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#kept < this.#length) throw new StorageError('full', 'a spool does not have all of its bytes');
    try {
      await syncFile(this.fd);
    } catch (error) {
      throw storageError(error, 'flushing a spool');
    }
    this.forget(0); // readers have the file
    return { path: this.path, digest: this.digest, size: this.#length } as VerifiedFile;
  }

  /** Never throws: whoever goes on is told of the failure. */
  #write(): void {
    if (this.#isWriting || this.#nextToWrite() === undefined) return;
    this.#isWriting = true;
    this.#writing = this.#writeBlocks();
  }

  async #writeBlocks(): Promise<void> {
    for (let block = this.#nextToWrite(); block !== undefined; block = this.#nextToWrite()) {
      const { bytes, start, end } = block;
      try {
        await writeFully(this.fd, bytes, start);
        this.#kept = end;
      } catch (error) {
        this.#failure = storageError(error, 'writing to a spool');
      }
      this.#dropWritten();
      this.#isWriting = this.#nextToWrite() !== undefined;
      this.#progress.resolve();
      this.#progress = Promise.withResolvers();
    }
  }

  /** A block that is not full is written when it is known that no more will come. */
  #nextToWrite(): MemoryBlock | undefined {
    if (this.#failure !== undefined || this.#users === 0) return undefined;
    const next = this.#blocks.find(({ end }) => end > this.#kept);
    if (next === undefined || next.end > this.#fileEnd) return undefined;
    return next.isFull || this.#isVerified ? next : undefined;
  }

  #dropWritten(): void {
    for (const block of this.#blocks.slice(0, -keptBlocks)) {
      if (block.end > this.#kept) return;
      this.#blocks.shift();
      block.release();
    }
  }

  /**
   * At least one and at most `length` bytes from `offset`, which lies before the present length: as they are in
   * memory, or out of the file.
   */
  async readAt(offset: number, length: number): Promise<Lent> {
    const block = this.#blocks.findLast(({ start }) => start <= offset);
    if (block !== undefined) return block.lend(offset, length);
    if (offset >= this.#kept) throw new StorageError('full', 'these bytes were passed on, and are not kept');
    const { buffer, giveBack } = lendBuffer();
    try {
      const most = Math.min(length, buffer.byteLength, this.#kept - offset);
      const { bytesRead } = await readFromFile(this.fd, buffer, 0, most, offset);
      if (bytesRead === 0) throw new StorageError('io', 'a spool is shorter than what was written to it');
      return { bytes: buffer.subarray(0, bytesRead), giveBack };
    } catch (error) {
      giveBack();
      throw storageError(error, 'reading a spool');
    }
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
    if (this.#users > 0) return;
    await this.#writing;
    for (const block of this.#blocks.splice(0)) block.release();
    await closeFile(this.fd).catch(() => undefined);
  }

  /** Removes the file unless the store took it. Readers that are open go on reading. */
  async discard(): Promise<void> {
    await rm(this.path, { force: true });
  }
}
