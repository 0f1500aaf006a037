import { LRUCache } from 'lru-cache';
import type { Descriptor } from '../../oci/descriptor.js';
import { parseDigest } from '../../oci/digest.js';
import type { DescriptorCache } from '../cluster.js';
import type { Keys } from './keys.js';
import { unavailable, type RedisLink } from './link.js';
import { readValue, type SealedValues } from './sealed-values.js';

/** Redis ends a value earlier. A value that another client wrote back is invalid after this time. */
const believedMs = 24 * 60 * 60_000;
/** A replica whose clock is behind by less than this still accepts values that others have just written. */
const clockToleranceMs = 60 * 60_000;
const batchMs = 20;
const mostWaiting = 10_000;

/** Descriptors that all replicas share. Writes are gathered and sent together, behind the requests. */
export class RedisDescriptorCache implements DescriptorCache {
  readonly #waiting = new LRUCache<string, Descriptor>({ max: mostWaiting });
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly link: RedisLink,
    private readonly keys: Keys,
    private readonly values: SealedValues,
    /** A descriptor may outlive its link by this time. */
    private readonly lifetimeMs: number,
  ) {}

  async get(key: string): Promise<Descriptor | undefined> {
    const name = this.keys.descriptor(key);
    const value = await this.link.call((client) => readValue(client, name));
    const text = value === unavailable ? undefined : this.values.open('descriptor', name, value);
    return text === undefined ? undefined : readTimed(text);
  }

  put(key: string, descriptor: Descriptor): void {
    this.#waiting.set(key, descriptor);
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#flush(), batchMs).unref();
  }

  drop(key: string): void {
    this.#waiting.delete(key);
    void this.link.call((client) => client.del(this.keys.descriptor(key)));
  }

  async share(entries: readonly (readonly [key: string, descriptor: Descriptor])[]): Promise<void> {
    await this.link.call((client) => {
      const batch = client.pipeline();
      for (const [key, descriptor] of entries) {
        const name = this.keys.descriptor(key);
        batch.set(name, this.values.seal(name, formatTimed(descriptor)), 'PX', this.lifetimeMs);
      }
      return batch.exec();
    });
  }

  #flush(): void {
    this.#timer = undefined;
    const entries = [...this.#waiting.entries()];
    this.#waiting.clear();
    void this.share(entries);
  }
}

/** The seal covers the time of writing, so a copy that a client puts back expires with the original value. */
export function formatTimed(descriptor: Descriptor): string {
  return `${formatDescriptor(descriptor)} ${Date.now()}`;
}

function readTimed(text: string): Descriptor | undefined {
  const end = text.lastIndexOf(' ');
  const ageMs = Date.now() - Number(text.slice(end + 1));
  const isInTime = ageMs >= -clockToleranceMs && ageMs < believedMs;
  return isInTime ? parseDescriptor(text.slice(0, end)) : undefined;
}

/** `<size> <digest> <media type>`: a line that an operator can read. */
export function formatDescriptor({ digest, size, mediaType }: Descriptor): string {
  return `${size} ${digest} ${mediaType}`;
}

export function parseDescriptor(text: string): Descriptor | undefined {
  const match = /^(\d{1,15}) (\S+) (\S+)$/.exec(text);
  const digest = parseDigest(match?.[2] ?? '');
  if (match?.[1] === undefined || match[3] === undefined || digest === undefined) return undefined;
  return { digest, size: Number(match[1]), mediaType: match[3] };
}
