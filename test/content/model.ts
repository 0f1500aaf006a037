import { LocalCoordinator } from '../../src/cluster/local/coordinator.js';
import { StoredContent, type StoredContentOptions } from '../../src/content/stored-content.js';
import { digestOf, hexOf, type Digest } from '../../src/oci/digest.js';
import { references } from '../../src/oci/manifest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../../src/oci/name.js';
import type { JobRun, Problem, Removal } from '../../src/scheduler/job.js';
import { Rescues } from '../../src/storage/rescues.js';
import {
  StorageError,
  type BlobStore,
  type Deletes,
  type Inventory,
  type RecordStore,
  type RepositoryStore,
  type SkipUnlisted,
  type StoredBlob,
} from '../../src/storage/storage.js';
import type { InUse, Use, UsageHistory } from '../../src/usage/usage.js';

/** Seconds. */
export const grace = 900;
export const wait = 1200;

export function repositoryOf(name: string): Repository {
  const repository = parseRepository(name);
  if (repository === undefined) throw new Error(`no repository: ${name}`);
  return repository;
}

export function tagOf(name: string): Tag {
  const tag = parseTag(name);
  if (tag === undefined) throw new Error(`no tag: ${name}`);
  return tag;
}

/** A mirror without a network: content that can be pulled, what is stored of it, who used it, and a clock. */
export class Model {
  /** Seconds since 1970. */
  now = 1_700_000_000;
  readonly known = new Map<Digest, Buffer>();
  readonly blobs = new Map<Digest, { readonly bytes: Buffer; readonly at: number }>();
  readonly layers = new Set<string>();
  readonly manifests = new Set<string>();
  readonly tags = new Map<string, Digest>();
  readonly records = new Map<string, Buffer>();
  readonly removed: Removal[] = [];
  readonly problems: Problem[] = [];
  readonly #unwritten = new Map<string, number>();
  /** Of other replicas, which this one cannot know of before they are written. */
  readonly #elsewhere = new Map<string, number>();
  readonly #watchers = new Set<(repository: Repository, digest: Digest) => void>();
  readonly #noted = new Map<string, number>();
  /** Who looks again when nothing is being deleted. */
  readonly #waiting: (() => void)[] = [];
  #snapshot = new Map<string, number>();
  /** Content, links as `repository@digest` and tags as `repository:tag` that the storage does not give or take. */
  readonly refused = new Set<string>();
  /** Its links cannot be listed. */
  unlisted: Repository | undefined;
  /** The storage does not even say what time it is. */
  away = false;
  mayDelete = true;
  /** What runs somewhere. */
  running: readonly InUse[] = [];
  /** Whether it is another replica that clients talk to. */
  elsewhere = false;
  /** Called before each step and each removal: for what happens meanwhile, or to end the run there. */
  meanwhile: () => void = () => undefined;

  content(options: Partial<StoredContentOptions> = {}): StoredContent {
    return new StoredContent({
      inventory: this.#inventory(),
      deletes: this.#deletes(),
      blobs: this.#blobStore(),
      repositories: this.#repositories(),
      records: this.#recordStore(),
      rescues: new Rescues(this.#recordStore()),
      usage: this.#history(),
      inUse: { images: () => pageOf(this.running) },
      cluster: {
        coordinator: new LocalCoordinator(),
        descriptors: {
          peek: () => undefined,
          get: () => Promise.resolve(undefined),
          put: () => undefined,
          drop: () => undefined,
          share: () => Promise.resolve(),
        },
        tags: {
          get: () => Promise.resolve(undefined),
          now: () => Promise.resolve(undefined),
          put: () => Promise.resolve(true),
          drop: () => undefined,
        },
      },
      newFile: () => Promise.resolve(':memory:'),
      ttlOf: () => 7 * 24 * 3_600_000,
      ttls: '168h',
      shortestTtlMs: 7 * 24 * 3_600_000,
      graceMs: grace * 1000,
      waitMs: wait * 1000,
      maxBytes: undefined,
      minFreeBytes: undefined,
      freeBytes: () => Promise.resolve(undefined),
      sweepLeftovers: () => Promise.resolve({}),
      transferring: () => false,
      observe: () => undefined,
      now: () => this.now * 1000,
      ...options,
    });
  }

  run(options: Partial<JobRun> = {}): JobRun {
    return {
      checkpoint: undefined,
      dryRun: false,
      signal: new AbortController().signal,
      step: () => {
        this.meanwhile();
        return Promise.resolve();
      },
      mayDelete: () => Promise.resolve(this.mayDelete),
      progress: () => undefined,
      problem: (problem) => void this.problems.push(problem),
      removed: (removal) => void this.removed.push(removal),
      ...options,
    };
  }

  /** Something that an upstream has. */
  offer(content: string | object): Digest {
    const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
    const digest = digestOf(bytes);
    this.known.set(digest, bytes);
    return digest;
  }

  /** What the mirror does for a client, in the order of rule 2; what it had to wait for is over when `given` is called. */
  pullManifest(repository: Repository, digest: Digest, tag?: Tag, given = (): void => undefined): void {
    const linked = this.manifests.has(`${repository}@${digest}`);
    if (!this.blobs.has(digest)) this.#store(digest);
    this.manifests.add(`${repository}@${digest}`);
    if (tag !== undefined) this.tags.set(`${repository}:${tag}`, digest);
    this.touch(repository, digest);
    this.#settle(digest, !linked, given);
  }

  pullBlob(repository: Repository, digest: Digest, given = (): void => undefined): void {
    const linked = this.layers.has(`${repository}@${digest}`);
    const stored = this.blobs.has(digest);
    if (!stored) this.#store(digest);
    this.layers.add(`${repository}@${digest}`);
    this.touch(repository, digest);
    this.#settle(digest, stored && !linked, given);
  }

  /** The run has died: whoever waits for its deletions waits for nothing. */
  endDeletions(): void {
    for (const key of this.records.keys()) if (key.startsWith('deleting/')) this.records.delete(key);
    for (const go of this.#waiting.splice(0)) go();
  }

  touch(repository: Repository, digest: Digest): void {
    if (this.elsewhere) {
      this.#elsewhere.set(`${repository}@${digest}`, this.now);
      return;
    }
    this.#unwritten.set(`${repository}@${digest}`, this.now);
    for (const told of this.#watchers) told(repository, digest);
  }

  /** As every half minute. */
  flush(): void {
    for (const uses of [this.#unwritten, this.#elsewhere]) {
      for (const [key, at] of uses) this.#noted.set(key, Math.max(at, this.#noted.get(key) ?? 0));
      uses.clear();
    }
  }

  /** As when Redis and the usage records are lost. */
  forgetUses(): void {
    this.#noted.clear();
    this.#snapshot.clear();
    this.#unwritten.clear();
  }

  get bytes(): number {
    return [...this.blobs.values()].reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  }

  childrenOf(manifest: Digest): Digest[] {
    return references(this.known.get(manifest) ?? Buffer.alloc(0)).map(({ digest }) => digest);
  }

  /** Content that nothing leads to. */
  unreferenced(): Digest[] {
    const kept = new Set<string>();
    const keep = (digest: Digest): void => {
      if (kept.has(digest)) return;
      kept.add(digest);
      if (this.blobs.has(digest)) for (const child of this.childrenOf(digest)) keep(child);
    };
    for (const key of this.manifests) keep(split(key).digest);
    for (const key of this.layers) kept.add(split(key).digest);
    return [...this.blobs.keys()].filter((digest) => !kept.has(digest));
  }

  #store(digest: Digest): void {
    const bytes = this.known.get(digest);
    if (bytes === undefined) throw new Error(`nobody has ${digest}`);
    this.blobs.set(digest, { bytes, at: this.now });
  }

  /** With a note, the last look at the content is when no deletion runs that may not have seen it. */
  #settle(digest: Digest, noted: boolean, given: () => void): void {
    const look = (): void => {
      if (!this.blobs.has(digest)) this.#store(digest);
      given();
    };
    if (noted) this.records.set(`rescued/${digest.replace(':', '-')}`, Buffer.from(`${this.now}\n`));
    const waits = noted && [...this.records.keys()].some((key) => key.startsWith('deleting/'));
    if (waits) this.#waiting.push(look);
    else look();
  }

  #inventory(): Inventory {
    const { blobs, layers, manifests, tags } = this;
    return {
      async *listBlobs(after): AsyncGenerator<StoredBlob[]> {
        const sorted = [...blobs].toSorted(([a], [b]) => (hexOf(a) < hexOf(b) ? -1 : 1));
        for (const [digest, { bytes, at }] of sorted) {
          if (after === undefined || digest > after) {
            yield [{ digest, size: bytes.byteLength, modifiedMs: at * 1000 }];
          }
        }
      },
      listLinks: async function* (this: Model, _signal: AbortSignal, skip?: SkipUnlisted) {
        const listed = (key: string): boolean => !key.startsWith(`${this.unlisted}@`);
        for (const key of manifests) if (listed(key)) yield [{ kind: 'manifest' as const, ...split(key) }];
        for (const key of layers) if (listed(key)) yield [{ kind: 'layer' as const, ...split(key) }];
        for (const [key, digest] of tags) {
          const { repository, tag } = splitTag(key);
          if (!this.refused.has(key)) yield [{ kind: 'tag' as const, repository, tag, digest }];
          else await skip?.({ path: key, error: refused(key), repository, onlyTags: true });
        }
        if (this.unlisted !== undefined) await skip?.({ path: this.unlisted, error: refused(this.unlisted) });
      }.bind(this),
      now: () => (this.away ? refusal('everything') : Promise.resolve(this.now * 1000)),
    };
  }

  #deletes(): Deletes {
    const remove = (from: Set<string> | Map<string, unknown>, key: string): Promise<void> => {
      this.meanwhile();
      if (this.refused.has(key)) return refusal(key);
      from.delete(key);
      return Promise.resolve();
    };
    return {
      // A client of this process that comes between the last look and this looks again after it has linked.
      deleteBlob: (digest) => {
        if (this.refused.has(digest)) return refusal(digest);
        this.blobs.delete(digest);
        this.meanwhile();
        return Promise.resolve();
      },
      unlinkLayer: (repository, digest) => remove(this.layers, `${repository}@${digest}`),
      unlinkManifest: (repository, digest) => remove(this.manifests, `${repository}@${digest}`),
      deleteTag: (repository, tag) => remove(this.tags, `${repository}:${tag}`),
    };
  }

  #blobStore(): BlobStore {
    const unused = (): never => {
      throw new Error('not in this model');
    };
    return {
      stat: (digest) => Promise.resolve(this.blobs.get(digest)?.bytes.byteLength),
      read: (digest) =>
        this.refused.has(digest) ? refusal(digest) : Promise.resolve(this.blobs.get(digest)?.bytes),
      open: unused,
      take: unused,
      put: unused,
    };
  }

  #repositories(): RepositoryStore {
    const unused = (): never => {
      throw new Error('not in this model');
    };
    return {
      hasLayer: (repository, digest) => Promise.resolve(this.layers.has(`${repository}@${digest}`)),
      hasManifest: (repository, digest) => Promise.resolve(this.manifests.has(`${repository}@${digest}`)),
      readTag: (repository, tag) => Promise.resolve(this.tags.get(`${repository}:${tag}`)),
      linkLayer: (repository, digest) => Promise.resolve(void this.layers.add(`${repository}@${digest}`)),
      linkManifest: (repository, digest) =>
        Promise.resolve(void this.manifests.add(`${repository}@${digest}`)),
      writeTag: (repository, tag, digest) =>
        Promise.resolve(void this.tags.set(`${repository}:${tag}`, digest)),
      listTags: unused,
      listRepositories: unused,
    };
  }

  #recordStore(): RecordStore {
    const { records } = this;
    return {
      readRecord: (key) => Promise.resolve(records.get(key)),
      writeRecord: (key, bytes) => Promise.resolve(void records.set(key, Buffer.from(bytes))),
      createRecord: (key, bytes) => {
        if (!records.has(key)) records.set(key, Buffer.from(bytes));
        return Promise.resolve(records.get(key) ?? Buffer.alloc(0));
      },
      adopt: () => Promise.resolve(false),
      listRecords: (below) =>
        Promise.resolve([...records.keys()].filter((key) => key.startsWith(below)).toSorted()),
      removeRecord: (key) => {
        records.delete(key);
        if (key.startsWith('deleting/')) this.endDeletions();
        return Promise.resolve();
      },
    };
  }

  #history(): UsageHistory {
    const uses = (from: ReadonlyMap<string, number>): Use[] =>
      [...from].map(([key, at]) => ({ ...split(key), at }));
    return {
      snapshot: () => pageOf(uses(this.#snapshot)),
      noted: () => pageOf(uses(this.#noted)),
      unwritten: () => uses(this.#unwritten),
      watch: (told) => {
        this.#watchers.add(told);
        return { [Symbol.dispose]: () => void this.#watchers.delete(told) };
      },
      compact: () => {
        for (const [key, at] of this.#noted) {
          this.#snapshot.set(key, Math.max(at, this.#snapshot.get(key) ?? 0));
        }
        return Promise.resolve();
      },
      save: (usesOf) => {
        const all = [...'0123456789abcdef'].flatMap((digit) => [...usesOf(digit)].flat());
        this.#snapshot = new Map(all.map(({ repository, digest, at }) => [`${repository}@${digest}`, at]));
        return Promise.resolve();
      },
      storedSince: () => Promise.resolve(0),
    };
  }
}

function refused(what: string): StorageError {
  return new StorageError('denied', `${what} is refused`);
}

function refusal(what: string): Promise<never> {
  return Promise.reject(refused(what));
}

async function* pageOf<T>(items: readonly T[]): AsyncGenerator<readonly T[]> {
  yield items;
}

export function split(key: string): { repository: Repository; digest: Digest } {
  const at = key.indexOf('@');
  return { repository: repositoryOf(key.slice(0, at)), digest: key.slice(at + 1) as Digest };
}

function splitTag(key: string): { repository: Repository; tag: Tag } {
  const at = key.lastIndexOf(':');
  return { repository: repositoryOf(key.slice(0, at)), tag: tagOf(key.slice(at + 1)) };
}
