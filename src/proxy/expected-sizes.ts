import { LRUCache } from 'lru-cache';
import { within } from '../cluster/local/caches.js';
import type { Digest } from '../oci/digest.js';
import { references } from '../oci/manifest.js';
import type { Repository } from '../oci/name.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';

const mostBytes = 8 * 1024 * 1024;
/** A key is some 100 to 400 bytes; beside it there is its place in the cache. */
const bytesOf = (_: number, key: string): number => key.length + 100;

/**
 * What blobs should measure, by `repository@digest`, from the manifests that were read: a file that a power cut or a
 * full disk left short is found before its first byte is sent. Each repository's manifests speak for that repository
 * alone, so a wrong one harms no other; and what was verified is believed before any manifest.
 */
export class ExpectedSizes {
  readonly #claimed = new LRUCache<string, number>(within(mostBytes, bytesOf));
  readonly #verified = new LRUCache<string, number>(within(mostBytes, bytesOf));
  readonly #told = new LRUCache<Digest, true>({ max: 1_000 });

  constructor(
    private readonly log: Logger,
    private readonly metrics: Metrics,
  ) {}

  note(repository: Repository, manifest: Uint8Array): void {
    for (const { kind, digest, size } of references(manifest)) {
      if (kind === 'blob' && size !== undefined) this.#claimed.set(`${repository}@${digest}`, size);
    }
  }

  /** Its content was hashed. */
  verified(key: string, size: number): void {
    this.#verified.set(key, size);
  }

  get(key: string): number | undefined {
    return this.#verified.get(key) ?? this.#claimed.get(key);
  }

  /** Says that stored content is not what it should be, once for each. */
  tell(type: 'blob' | 'manifest', digest: Digest, size: number, expected?: number): void {
    if (this.#told.has(digest)) return;
    this.#told.set(digest, true);
    this.metrics.storedDamaged.inc({ type });
    const facts = { digest, bytes: size, ...(expected === undefined ? {} : { expected }) };
    this.log.warn(facts, `a stored ${type} is damaged, and as good as absent`);
  }
}
