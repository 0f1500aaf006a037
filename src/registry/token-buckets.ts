import { LRUCache } from 'lru-cache';

/** Buckets in memory, some 10 MB. The least recently used is dropped first; its client then has a full bucket. */
const mostClients = 50_000;

/** The number of tokens that a client had at the time `asOf`, in seconds. */
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
    /** The most tokens that a client can have. */
    private readonly burst: number,
    /** Milliseconds of a clock that never goes back. */
    private readonly now: () => number,
  ) {}

  /** Seconds until the client has a token; 0 if it has one. */
  secondsUntilToken(client: string): number {
    return Math.max(0, (1 - this.#left(client)) / this.rate);
  }

  /** Whether the client has used no token lately. */
  isFull(client: string): boolean {
    return this.#left(client) >= this.burst;
  }

  /** Takes a token and returns 0. Without a whole token, takes nothing and returns the seconds until there is one. */
  take(client: string): number {
    const left = this.#left(client);
    if (left < 1) return (1 - left) / this.rate;
    this.#buckets.set(client, { left: left - 1, asOf: this.now() / 1000 });
    return 0;
  }

  #left(client: string): number {
    const bucket = this.#buckets.get(client);
    if (bucket === undefined) return this.burst;
    return Math.min(this.burst, bucket.left + (this.now() / 1000 - bucket.asOf) * this.rate);
  }
}
