import { LRUCache } from 'lru-cache';
import { within } from '../cluster/local/caches.js';
import type { UpstreamError } from '../upstream/upstream.js';

const negativeForMs = 5_000;
const mostBytes = 6 * 1024 * 1024;
/** An error holds its stack beside its message. */
const bytesOf = (error: UpstreamError, key: string): number => key.length + error.message.length + 1_000;

/** Answers of upstreams that said no, held for seconds: enough for a herd, short enough for a fresh push. */
export class Refusals {
  readonly #held = new LRUCache<string, UpstreamError>({ ...within(mostBytes, bytesOf), ttl: negativeForMs });

  remember(key: string, error: UpstreamError): void {
    this.#held.set(key, error);
  }

  throwIfHeld(key: string): void {
    const error = this.#held.get(key);
    if (error !== undefined) throw error;
  }
}
