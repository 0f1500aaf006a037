import type { Digest } from '../oci/digest.js';
import { StorageError, type BlobStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { confirmSize, isProven, isUsable, type Filling, type Unusable } from './filler.js';

/** The store as a source of a blob that another replica has put there. One that is in trouble has nothing. */
export class StoreSource {
  #gaveAll = false;

  constructor(
    private readonly digest: Digest,
    private readonly blobs: BlobStore,
    private readonly unusable: Unusable | undefined,
    private readonly log: Logger,
  ) {}

  async has(size: number): Promise<boolean> {
    return this.#survive(async () => (await this.blobs.stat(this.digest)) === size);
  }

  /** `true`: the store had it. `false`: it had nothing, or as much as is in the spool now. */
  async fill(filling: Filling): Promise<boolean> {
    this.#gaveAll = await this.#survive(() => this.#read(filling));
    return this.#gaveAll;
  }

  /** The spool was filled from it: there is nothing to store. */
  get gaveAll(): boolean {
    return this.#gaveAll;
  }

  async #survive(work: () => Promise<boolean>): Promise<boolean> {
    try {
      return await work();
    } catch (err) {
      if (!(err instanceof StorageError) || err.code === 'full') throw err; // the spool is full
      this.log.debug({ digest: this.digest, err }, 'the store cannot be read, going on without it');
      return false;
    }
  }

  async #read(filling: Filling): Promise<boolean> {
    const source = filling.nextSource();
    if (source === undefined) return false;
    const size = await this.blobs.stat(this.digest);
    if (size === undefined || !isUsable(size, this.unusable)) return false;
    if (!isProven(filling, size) && (await confirmSize(source, filling, size)) !== 'confirmed') return false;
    filling.open(filling.nextSource() ?? source, size);
    if (filling.length >= size) return true;
    const blob = await this.blobs.open(this.digest, { start: filling.length, end: undefined });
    if (blob === undefined) return false;
    try {
      for await (const chunk of blob.body) await filling.append(chunk);
    } finally {
      await blob.close();
    }
    return true;
  }
}
