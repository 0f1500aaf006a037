import { BufferPool, poolWithRoom } from '../memory/buffer-pool.js';

/** Bytes that somebody was lent, to read: theirs until they give them back. */
export interface Lent {
  readonly bytes: Uint8Array;
  /** Once. The memory is used again. */
  giveBack(): void;
}

const largeBuffers = { pool: new BufferPool(256 * 1024, 24), most: 24 };
const smallBuffers = new BufferPool(32 * 1024, 64);

/** A buffer out of a pool that fits how many there are already. */
export function lendBuffer(): { readonly buffer: Buffer; giveBack(): void } {
  const pool = poolWithRoom([largeBuffers], smallBuffers);
  const buffer = pool.take();
  return { buffer, giveBack: () => pool.give(buffer) };
}

/** A piece of a spool in memory: one writer fills it, and its memory is used again when the last user has left. */
export class MemoryBlock {
  readonly #memory = lendBuffer();
  #length = 0;
  #users = 1;

  constructor(
    /** Where it begins in the spool, in bytes. */
    readonly start: number,
  ) {}

  get end(): number {
    return this.start + this.#length;
  }

  get isFull(): boolean {
    return this.#length === this.#memory.buffer.byteLength;
  }

  get bytes(): Uint8Array {
    return this.#memory.buffer.subarray(0, this.#length);
  }

  /** Takes as much as there is room for; returns how much that was. */
  add(chunk: Uint8Array): number {
    const { buffer } = this.#memory;
    const taken = Math.min(chunk.byteLength, buffer.byteLength - this.#length);
    buffer.set(taken === chunk.byteLength ? chunk : chunk.subarray(0, taken), this.#length);
    this.#length += taken;
    return taken;
  }

  /** At most `length` bytes from this offset in the spool on, which it holds. */
  lend(offset: number, length: number): Lent {
    const from = offset - this.start;
    const bytes = this.#memory.buffer.subarray(from, Math.min(from + length, this.#length));
    this.#users += 1;
    return { bytes, giveBack: () => this.release() };
  }

  /** One user less; the first one is whoever made it. */
  release(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#memory.giveBack();
  }
}
