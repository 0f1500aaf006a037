/**
 * Frees a chunk that is used no more, where all of its memory is this chunk's. Left to the garbage collector the
 * chunks of one fast blob make it go through the whole heap a hundred times a second.
 */
export function giveUp({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}

/**
 * Buffers of one size that are used again and again: a new one for each chunk would keep the garbage collector busier
 * than the disk. Whoever takes one gives it back when nobody reads it any more.
 */
export class BufferPool {
  readonly #free: Buffer[] = [];
  #taken = 0;

  constructor(
    readonly size: number,
    /** So many unused ones are kept. */
    private readonly most: number,
  ) {}

  /** How many are in use. */
  get taken(): number {
    return this.#taken;
  }

  take(): Buffer {
    this.#taken += 1;
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.size);
  }

  give(buffer: Buffer): void {
    this.#taken -= 1;
    if (this.#free.length < this.most) this.#free.push(buffer);
    else giveUp(buffer);
  }
}

/** Of these the first that has fewer in use than its most, else the last one: who comes early is fast, the rest hold little. */
export function poolWithRoom(
  pools: readonly { readonly pool: BufferPool; readonly most: number }[],
  last: BufferPool,
): BufferPool {
  return pools.find(({ pool, most }) => pool.taken < most)?.pool ?? last;
}
