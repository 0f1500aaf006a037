import { LRUCache } from 'lru-cache';

/** As long as registry's are. */
export const lifetimeSeconds = 20 * 60;
/** Handed out only while this is left of it. */
const marginMs = 5 * 60_000;
const most = 20_000;

export interface SignedAddress {
  /** A credential: never for a log. */
  readonly url: string;
  /** When it is handed out no more, in milliseconds since 1970. */
  readonly until: number;
}

/** Signs an address for so many seconds; `until`: when the credentials end, where they do. */
export type Sign = (key: string, seconds: number) => Promise<{ url: string; until: number | undefined }>;

/** Addresses of objects that need no further credentials. To sign costs more than to read a small object. */
export class SignedAddresses {
  readonly #known = new LRUCache<string, SignedAddress>({ max: most });

  constructor(private readonly sign: Sign) {}

  /** Throws StorageError. */
  async get(key: string): Promise<SignedAddress> {
    const known = this.#known.get(key);
    if (known !== undefined && known.until > Date.now()) return known;
    const started = Date.now();
    const { url, until = Infinity } = await this.sign(key, lifetimeSeconds);
    // An address ends with the credentials that signed it.
    const address = { url, until: Math.min(started + lifetimeSeconds * 1000, until) - marginMs };
    this.#known.set(key, address);
    return address;
  }

  /** The server did not take it. */
  forget(key: string): void {
    this.#known.delete(key);
  }
}
