/**
 * Buffers of one size that are used again and again: a new one for each chunk would keep the garbage collector busier
 * than the disk. Whoever takes one gives it back when nobody reads it any more.
 */
export class BufferPool {
  readonly #free: Buffer[] = [];

  constructor(
    readonly size: number,
    /** So many unused ones are kept. */
    private readonly most: number,
  ) {}

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.size);
  }

  give(buffer: Buffer): void {
    if (this.#free.length < this.most) this.#free.push(buffer);
  }
}
