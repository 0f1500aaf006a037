import { LocalCoordinator } from '../../src/cluster/local/coordinator.js';
import { BlobRemoval } from '../../src/content/blob-removal.js';
import { Scrubber } from '../../src/content/scrub.js';
import { StorageClock } from '../../src/content/storage-clock.js';
import { StoredContent, type StoredContentOptions } from '../../src/content/stored-content.js';
import { digestOf, hexOf, type Digest } from '../../src/oci/digest.js';
import { references } from '../../src/oci/manifest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../../src/oci/name.js';
import type { JobRun, Problem, Removal } from '../../src/scheduler/job.js';
import {
  deletionMs,
  deletionSettledMs,
  StorageError,
  type BlobStore,
  type Deletes,
  type Inventory,
  type RecordStore,
  type RepositoryStore,
  type SkipUnlisted,
  type StoredBlob,
} from '../../src/storage/storage.js';
import { createLogger } from '../../src/telemetry/log.js';
import type { InUse, Use, UsageHistory } from '../../src/usage/usage.js';

/** Seconds. */
export const grace = 900;
/** The lifetime of a presigned address, in seconds. */
export const addressed = 1200;
export const wait = grace + addressed;

/** Content as it was written or renewed once: another writing is another object. */
interface Written {
  readonly bytes: Buffer;
  /** By the storage's clock. */
  readonly at: number;
  readonly isRotten?: true;
}

/** A step of a deletion that happens later, also after the process that began it has died. */
interface LateStep {
  readonly at: number;
  readonly happen: () => void;
}

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
  readonly blobs = new Map<Digest, Written>();
  /** In a folder: content that a deleter has renamed. */
  readonly #aside = new Map<Digest, Written>();
  readonly #late = new Set<LateStep>();
  /** In a bucket: when each announced deletion of content ends at the latest. */
  readonly #announced = new Map<Digest, Set<{ readonly until: number }>>();
  /** Content that was deleted rightly although an image needs it: the next pull fetches it again. */
  readonly lost = new Set<Digest>();
  /** How many seconds each deletion takes to happen, in turn. */
  late: readonly number[] = [0];
  #deletions = 0;
  /** How far the clocks of this replica and of the others are off, in seconds. */
  skew = { here: 0, elsewhere: 0 };
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

  constructor(private readonly kind: 'folder' | 'bucket' = 'folder') {}

  content(options: Partial<StoredContentOptions> = {}): StoredContent {
    const inventory = this.#inventory();
    return new StoredContent({
      inventory,
      clock: new StorageClock(inventory, () => this.now * 1000 - 12_345_000),
      removal: this.#removal(),
      deletes: this.#deletes(),
      blobs: this.#blobStore(),
      repositories: this.#repositories(),
      records: this.#recordStore(),
      usage: this.#history(),
      inUse: { images: () => pageOf(this.running) },
      cluster: {
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
      observe: () => undefined,
      ...options,
    });
  }

  async scrub(): Promise<void> {
    const scrubber = new Scrubber({
      inventory: this.#inventory(),
      blobs: this.#blobStore(),
      removal: this.#removal(),
      waitMs: wait * 1000,
      expectedBlobs: () => Promise.resolve(undefined),
      log: createLogger({ level: 'error', formatter: 'json', fields: {} }, { write: () => undefined }),
      observer: { read: () => undefined, rotten: () => undefined },
    });
    await scrubber.scrub(this.run(), { rate: Infinity });
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

  /** What the mirror does for a client, in the order of rule 2. */
  pullManifest(repository: Repository, digest: Digest, tag?: Tag): void {
    const link = `${repository}@${digest}`;
    const isNew = !this.manifests.has(link) || !this.shows(digest);
    if (isNew && !this.#bring(digest)) return;
    this.manifests.add(link);
    if (tag !== undefined) this.tags.set(`${repository}:${tag}`, digest);
    this.touch(repository, digest);
    if (!isNew) return;
    for (const child of this.childrenOf(digest)) {
      const key = `${repository}@${child}`;
      if (this.layers.has(key) || this.manifests.has(key) || !this.shows(child)) continue;
      // It may be deleted: a part without a link is promised to no client.
      if (!this.#renew(child)) this.lost.add(child);
    }
  }

  pullBlob(repository: Repository, digest: Digest): void {
    const link = `${repository}@${digest}`;
    const isNew = !this.layers.has(link) || !this.shows(digest);
    if (isNew && !this.#bring(digest)) return;
    this.layers.add(link);
    this.touch(repository, digest);
  }

  /** Whether a look finds it. */
  shows(digest: Digest): boolean {
    const found = this.blobs.get(digest);
    return found !== undefined && found.isRotten !== true;
  }

  /** A byte of it turns over. */
  rot(digest: Digest): void {
    const found = this.blobs.get(digest);
    if (found === undefined) return;
    this.blobs.set(digest, { ...found, bytes: Buffer.from('rotten') });
    this.lost.add(digest);
  }

  pass(seconds: number): void {
    const until = this.now + seconds;
    for (const late of [...this.#late].toSorted((a, b) => a.at - b.at)) {
      if (late.at > until || !this.#late.has(late)) continue;
      this.now = Math.max(this.now, late.at);
      this.#happen(late);
    }
    this.now = until;
  }

  touch(repository: Repository, digest: Digest): void {
    const key = `${repository}@${digest}`;
    if (this.elsewhere) {
      this.#elsewhere.set(key, this.now + this.skew.elsewhere);
      return;
    }
    this.#unwritten.set(key, this.now + this.skew.here);
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

  /** Stored content is renewed, other content fetched. `false`: it is not to be linked yet. */
  #bring(digest: Digest): boolean {
    if (this.shows(digest) && this.#renew(digest)) return true;
    const bytes = this.known.get(digest);
    if (bytes === undefined) throw new Error(`nobody has ${digest}`);
    this.blobs.set(digest, { bytes, at: this.now });
    if (this.#isThreatened(digest)) return false;
    this.lost.delete(digest);
    return true;
  }

  /** `false`: a deletion that began before may still take it. */
  #renew(digest: Digest): boolean {
    const found = this.blobs.get(digest);
    if (found === undefined) return false;
    // A bucket leaves young content as it is: to copy it would cost.
    const isYoung = this.kind === 'bucket' && this.now - found.at < grace / 2;
    if (!isYoung) this.blobs.set(digest, { bytes: found.bytes, at: this.now });
    return !this.#isThreatened(digest);
  }

  #isThreatened(digest: Digest): boolean {
    return [...(this.#announced.get(digest) ?? [])].some(({ until }) => this.now <= until);
  }

  #removal(): BlobRemoval {
    return new BlobRemoval({
      deletes: this.#deletes(),
      coordinator: () => new LocalCoordinator(),
      transferring: () => false,
    });
  }

  #happen(late: LateStep): void {
    this.#late.delete(late);
    late.happen();
  }

  /** Waits for it as long as the deleter does. */
  #afterDelay(happen: () => void): void {
    const late = this.late[this.#deletions++ % this.late.length] ?? 0;
    const step = { at: this.now + late, happen };
    this.#late.add(step);
    this.meanwhile();
    if (this.#late.has(step)) this.pass(Math.min(Math.max(0, step.at - this.now), deletionMs / 1000));
    if (this.#late.has(step)) throw new StorageError('io', 'no answer in time');
  }

  #takeBlob(digest: Digest, writtenBy: number, inBucket: (found: Written) => void): Promise<boolean> {
    if (this.refused.has(digest)) return refusal(digest);
    return this.kind === 'folder'
      ? this.#deleteInFolder(digest, writtenBy)
      : this.#inBucket(digest, writtenBy, inBucket);
  }

  async #inBucket(digest: Digest, writtenBy: number, take: (found: Written) => void): Promise<boolean> {
    this.meanwhile();
    const signedAt = this.now;
    const before = this.blobs.get(digest);
    if (before === undefined) return true;
    if (before.at * 1000 > writtenBy) return false;
    this.meanwhile();
    const all = this.#announced.get(digest) ?? new Set();
    this.#announced.set(digest, all);
    const announced = { until: this.now + deletionSettledMs / 1000 };
    all.add(announced);
    this.meanwhile();
    const found = this.blobs.get(digest);
    const isOld = found !== undefined && found.at * 1000 <= writtenBy;
    if (isOld) {
      this.#afterDelay(() => {
        const now = this.blobs.get(digest);
        if (now === undefined || this.now > signedAt + deletionMs / 1000) return; // its signature has ended
        take(now);
      });
    }
    this.meanwhile();
    all.delete(announced);
    return isOld || found === undefined;
  }

  async #deleteInFolder(digest: Digest, writtenBy: number): Promise<boolean> {
    this.meanwhile();
    const looked = this.blobs.get(digest);
    if (looked === undefined) return true;
    if (looked.at * 1000 > writtenBy) return false;
    let isLate = false;
    const conclude = (): boolean => {
      const found = this.#aside.get(digest);
      if (found !== undefined && found.at * 1000 > writtenBy) {
        this.#putBack();
        return false;
      }
      this.#aside.delete(digest);
      return true;
    };
    const rename = (): void => {
      const found = this.blobs.get(digest);
      if (found === undefined) return;
      this.blobs.delete(digest);
      this.#aside.set(digest, found);
      if (isLate) conclude();
    };
    try {
      this.#afterDelay(rename);
    } catch (error) {
      isLate = true; // others count this process as dead, and it continues
      throw error;
    }
    this.meanwhile();
    return conclude();
  }

  #putBack(): void {
    for (const [digest, found] of this.#aside) if (!this.blobs.has(digest)) this.blobs.set(digest, found);
    this.#aside.clear();
  }

  #inventory(): Inventory {
    const { blobs, layers, manifests, tags } = this;
    const putBack = (): void => this.#putBack();
    return {
      async *listBlobs(after): AsyncGenerator<StoredBlob[]> {
        putBack();
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
      deleteBlob: (digest, writtenBy) =>
        this.#takeBlob(digest, writtenBy, () => void this.blobs.delete(digest)),
      condemnBlob: (digest, writtenBy) =>
        this.#takeBlob(digest, writtenBy, (found) => {
          this.blobs.set(digest, { ...found, at: this.now, isRotten: true });
        }),
      unlinkLayer: (repository, digest) => remove(this.layers, `${repository}@${digest}`),
      unlinkManifest: (repository, digest) => remove(this.manifests, `${repository}@${digest}`),
      deleteTag: (repository, tag) => remove(this.tags, `${repository}:${tag}`),
    };
  }

  #blobStore(): BlobStore {
    const bytesOf = (digest: Digest): Buffer | undefined =>
      this.shows(digest) ? this.blobs.get(digest)?.bytes : undefined;
    const unused = (): never => {
      throw new Error('not in this model');
    };
    return {
      stat: (digest) => Promise.resolve(bytesOf(digest)?.byteLength),
      read: (digest) => (this.refused.has(digest) ? refusal(digest) : Promise.resolve(bytesOf(digest))),
      open: async (digest) => {
        const bytes = bytesOf(digest);
        this.meanwhile();
        const close = (): Promise<void> => Promise.resolve();
        return bytes && { size: bytes.byteLength, range: undefined, body: pageOf(bytes), close };
      },
      renew: unused,
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

async function* pageOf<T>(items: T): AsyncGenerator<T> {
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
