import { LRUCache } from 'lru-cache';
import { Lifetime } from '../../async/lifetime.js';
import { SingleFlight } from '../../async/single-flight.js';
import type { Digest } from '../../oci/digest.js';
import { blobPath } from '../layout.js';
import type { Presigned } from '../storage.js';
import type { SignedAddresses } from './signed-addresses.js';

const mostBytes = 16 * 1024 * 1024;
/** A replica looks at the object again after this time, so it soon stops redirecting to a deleted object. */
const looksEveryMs = 60_000;

interface Minted extends Presigned {
  /** Of the address. */
  readonly lifetime: Lifetime;
  /** Of the look at the object. */
  readonly looked: Lifetime;
}

/** Addresses for clients, each handed out for a minute after a look at its object. */
export class PresignedUrls {
  readonly #minted = new LRUCache<Digest, Minted>({
    maxSize: mostBytes,
    sizeCalculation: ({ url }, digest) => url.length + digest.length + 200,
  });
  readonly #minting = new SingleFlight<Minted | undefined>();

  constructor(
    private readonly addresses: SignedAddresses,
    /** The look: the size of an object to which the replica may redirect clients. */
    private readonly stat: (digest: Digest) => Promise<number | undefined>,
  ) {}

  /** One that was made before, and is good for some minutes yet. */
  recall(digest: Digest): Presigned | undefined {
    const known = this.#minted.get(digest);
    return known?.lifetime.isOver === false && !known.looked.isOver ? known : undefined;
  }

  get(digest: Digest): Promise<Presigned | undefined> {
    const known = this.recall(digest);
    if (known !== undefined) return Promise.resolve(known);
    return this.#minting.join(digest, () => this.#mint(digest));
  }

  async #mint(digest: Digest): Promise<Minted | undefined> {
    this.#minted.delete(digest);
    const looked = new Lifetime(looksEveryMs);
    const size = await this.stat(digest);
    if (size === undefined) return undefined;
    const minted = { ...(await this.addresses.get(blobPath(digest))), size, looked };
    this.#minted.set(digest, minted);
    return minted;
  }
}
