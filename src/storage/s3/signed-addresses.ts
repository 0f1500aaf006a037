import { LRUCache } from 'lru-cache';
import { Lifetime } from '../../async/lifetime.js';

/** As long as registry's are. */
export const lifetimeSeconds = 20 * 60;
/** Handed out only while this is left of it. */
const marginMs = 5 * 60_000;
/** An address is some 700 bytes, or twice that with a session token. */
const mostBytes = 12 * 1024 * 1024;

export interface SignedAddress {
  /** A credential: never for a log. */
  readonly url: string;
  /** When it is over, the address is not given out any more. */
  readonly lifetime: Lifetime;
}

/** Signs an address that lasts `seconds`. `until`: when the credentials end (ms of Unix time), if they do. */
export type Sign = (key: string, seconds: number) => Promise<{ url: string; until: number | undefined }>;

/** Addresses of objects that need no further credentials. To sign costs more than to read a small object. */
export class SignedAddresses {
  readonly #known = new LRUCache<string, SignedAddress>({
    maxSize: mostBytes,
    sizeCalculation: ({ url }, key) => url.length + key.length + 200,
  });

  constructor(private readonly sign: Sign) {}

  /** Throws StorageError. */
  async get(key: string): Promise<SignedAddress> {
    const known = this.#known.get(key);
    if (known?.lifetime.isOver === false) return known;
    const { url, until = Infinity } = await this.sign(key, lifetimeSeconds);
    // An address ends with the credentials that signed it.
    const ms = Math.min(lifetimeSeconds * 1000, until - Date.now()) - marginMs;
    const address = { url, lifetime: new Lifetime(ms) };
    this.#known.set(key, address);
    return address;
  }

  /** The server did not take it. */
  forget(key: string): void {
    this.#known.delete(key);
  }
}
