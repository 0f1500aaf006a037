import { LRUCache } from 'lru-cache';
import type { Digest } from '../../oci/digest.js';
import { blobPath } from '../layout.js';
import type { Presigned } from '../storage.js';
import type { Bucket } from './bucket.js';

/** As long as registry's are. */
export const lifetimeSeconds = 20 * 60;
/** Handed out only while a client still has this long to begin with it. */
const marginMs = 5 * 60_000;
const most = 50_000;

interface Minted extends Presigned {
  readonly until: number;
}

/** Addresses for clients, each made after a look at its object and handed out until shortly before its end. */
export class PresignedUrls {
  readonly #minted = new LRUCache<Digest, Minted>({ max: most });
  readonly #minting = new Map<Digest, Promise<Minted | undefined>>();

  constructor(
    private readonly bucket: Bucket,
    /** The look: an object's size. */
    private readonly stat: (digest: Digest) => Promise<number | undefined>,
  ) {}

  get(digest: Digest): Promise<Presigned | undefined> {
    const known = this.#minted.get(digest);
    if (known !== undefined && known.until > Date.now()) return Promise.resolve(known);
    const running = this.#minting.get(digest);
    if (running !== undefined) return running;
    const minting = this.#mint(digest).finally(() => this.#minting.delete(digest));
    this.#minting.set(digest, minting);
    return minting;
  }

  async #mint(digest: Digest): Promise<Minted | undefined> {
    this.#minted.delete(digest);
    const size = await this.stat(digest);
    if (size === undefined) return undefined;
    const started = Date.now();
    const { url, until = Infinity } = await this.bucket.presign(blobPath(digest), lifetimeSeconds);
    // An address ends with the credentials that signed it.
    const minted = { url, size, until: Math.min(started + lifetimeSeconds * 1000, until) - marginMs };
    this.#minted.set(digest, minted);
    return minted;
  }
}
