import { LRUCache } from 'lru-cache';
import type { Descriptor } from '../../oci/descriptor.js';
import { parseDigest } from '../../oci/digest.js';
import type { DescriptorCache } from '../cluster.js';
import type { Keys } from './keys.js';
import { unavailable, type RedisLink } from './link.js';

const lifetimeSeconds = 24 * 60 * 60;
const batchMs = 20;
const mostWaiting = 10_000;

/** Descriptors that all replicas share. Writes are gathered and sent together, behind the requests. */
export class RedisDescriptorCache implements DescriptorCache {
  readonly #waiting = new LRUCache<string, Descriptor>({ max: mostWaiting });
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly link: RedisLink,
    private readonly keys: Keys,
  ) {}

  async get(key: string): Promise<Descriptor | undefined> {
    const text = await this.link.call((client) => client.get(this.keys.descriptor(key)));
    return text === unavailable || text === null ? undefined : parseDescriptor(text);
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
        batch.set(this.keys.descriptor(key), formatDescriptor(descriptor), 'EX', lifetimeSeconds);
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
