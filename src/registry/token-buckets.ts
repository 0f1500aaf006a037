import { LRUCache } from 'lru-cache';

/** Buckets in memory, some 10 MB. The least recently used is dropped first; its client then has a full bucket. */
const mostClients = 50_000;

/** The tokens of a client at a time, in seconds. */
interface Bucket {
  left: number;
  asOf: number;
}

/** A token bucket for each client. */
export class TokenBuckets {
  readonly #buckets = new LRUCache<string, Bucket>({ max: mostClients });

  constructor(
    /** Tokens per second. */
    private readonly rate: number,
    /** The most tokens that a client has. */
    private readonly burst: number,
    /** Milliseconds of a clock that never goes back. */
    private readonly now: () => number,
  ) {}

  /** Seconds until the client has a token; 0 if it has one. */
  secondsUntilToken(client: string): number {
    return Math.max(0, (1 - this.#left(client)) / this.rate);
  }

  /** Takes a token. Returns 0, or the seconds until there is one if there was none to take. */
  take(client: string): number {
    const left = this.#left(client);
    this.#buckets.set(client, { left: Math.max(0, left - 1), asOf: this.now() / 1000 });
    return Math.max(0, (1 - left) / this.rate);
  }

  #left(client: string): number {
    const bucket = this.#buckets.get(client);
    if (bucket === undefined) return this.burst;
    return Math.min(this.burst, bucket.left + (this.now() / 1000 - bucket.asOf) * this.rate);
  }
}
