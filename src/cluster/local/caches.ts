import { LRUCache } from 'lru-cache';
import type { Descriptor } from '../../oci/descriptor.js';
import type { DescriptorCache, NearDescriptorCache, SharedTag, TagCache } from '../cluster.js';

const mostBytes = 24 * 1024 * 1024;
const longestMs = 5 * 60_000;
const longestRepeatMs = 1_000;

/**
 * For so many milliseconds this process may go by what it saw in the storage, and then has to look again: what is
 * hidden there is soon hidden here too. Within the grace, after which what is hidden may be deleted.
 */
export function memoryLifetime(graceMs: number): number {
  return Math.min((graceMs - repeatLifetime(graceMs)) / 2, longestMs);
}

/**
 * How long replicas may use a value that one of them shares with the others, in milliseconds. Each replica may then
 * remember it for `memoryLifetime`; both times together are within the grace.
 */
export function sharedLifetime(graceMs: number): number {
  return Math.floor(graceMs - memoryLifetime(graceMs) - repeatLifetime(graceMs));
}

/** And for so many milliseconds after that an answer made from memory may be given again. */
export function repeatLifetime(graceMs: number): number {
  return Math.min(graceMs / 10, longestRepeatMs);
}

/** Options of a cache whose entries live so long after they were made. A coarse clock: each look-up reads it. */
export function livingFor(lifetimeMs: number): {
  readonly ttl: number;
  readonly ttlResolution: number;
  readonly perf: { now(): number };
} {
  return { ttl: lifetimeMs, ttlResolution: 1_000, perf: performance };
}

/** Options of a cache whose entries take at most `bytes` of memory together. `bytesOf` estimates one with its key. */
export function within<V extends object | number>(
  bytes: number,
  bytesOf: (value: V, key: string) => number,
): { readonly maxSize: number; readonly sizeCalculation: (value: V, key: string) => number } {
  return { maxSize: bytes, sizeCalculation: bytesOf };
}

/** What a descriptor takes beside its media type: the digest, the object, and its place in a cache. */
const descriptorOverhead = 300;

/** What a descriptor takes in a cache, in bytes. */
export function bytesOfDescriptor({ mediaType }: Descriptor, key: string): number {
  return key.length + mediaType.length + descriptorOverhead;
}

/** Descriptors in this process: all there is without Redis, and what stands before it. */
export class LocalDescriptorCache implements NearDescriptorCache {
  readonly #descriptors: LRUCache<string, Descriptor>;

  constructor(lifetimeMs: number) {
    this.#descriptors = new LRUCache({ ...within(mostBytes, bytesOfDescriptor), ...livingFor(lifetimeMs) });
  }

  peek(key: string): Descriptor | undefined {
    return this.#descriptors.get(key);
  }

  get(key: string): Promise<Descriptor | undefined> {
    return Promise.resolve(this.peek(key));
  }

  put(key: string, descriptor: Descriptor): void {
    this.#descriptors.set(key, descriptor);
  }

  drop(key: string): void {
    this.#descriptors.delete(key);
  }

  share(): Promise<void> {
    return Promise.resolve(); // there are no others
  }
}

/** This process's memory before the cache that all replicas share. */
export class TieredDescriptorCache implements NearDescriptorCache {
  readonly #near: LocalDescriptorCache;

  constructor(
    private readonly far: DescriptorCache,
    lifetimeMs: number,
  ) {
    this.#near = new LocalDescriptorCache(lifetimeMs);
  }

  peek(key: string): Descriptor | undefined {
    return this.#near.peek(key);
  }

  get(key: string): Promise<Descriptor | undefined> {
    const near = this.#near.peek(key);
    return near === undefined ? this.#getFar(key) : Promise.resolve(near);
  }

  put(key: string, descriptor: Descriptor): void {
    this.#near.put(key, descriptor);
    this.far.put(key, descriptor);
  }

  drop(key: string): void {
    this.#near.drop(key);
    this.far.drop(key);
  }

  share(entries: readonly (readonly [key: string, descriptor: Descriptor])[]): Promise<void> {
    return this.far.share(entries);
  }

  async #getFar(key: string): Promise<Descriptor | undefined> {
    const far = await this.far.get(key);
    if (far !== undefined) this.#near.put(key, far);
    return far;
  }
}

/** Without Redis nothing is shared; what this process knows of tags it keeps itself. */
export class NoTagCache implements TagCache {
  get(): Promise<SharedTag | undefined> {
    return Promise.resolve(undefined);
  }

  now(): Promise<string | undefined> {
    return Promise.resolve(undefined);
  }

  put(): Promise<boolean> {
    return Promise.resolve(true);
  }

  drop(): void {
    // Nothing to forget.
  }
}
