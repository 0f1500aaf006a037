import { loopTurn } from '../async/loop-turn.js';
import { algorithmOf, digestOf, type Digest } from '../oci/digest.js';
import { readManifest, references } from '../oci/manifest.js';
import type { Repository } from '../oci/name.js';
import type { JobRun } from '../scheduler/job.js';
import { mapAtOnce, pagesOf } from '../storage/pages.js';
import type { BlobStore, Inventory, RepositoryStore, Unlisted } from '../storage/storage.js';
import type { InUseHistory, UnknownUses, Use, UsageHistory } from '../usage/usage.js';
import type { ContentIndex } from './content-index.js';
import type { IndexedBlob } from './index-queries.js';
import { inPortions } from './portions.js';
import { Tolerance } from './tolerance.js';

/** As long as the distribution-spec wants manifests to be taken. */
const longestManifest = 4 * 1024 * 1024;
/** Longer ones are hashed in one turn of the event loop and parsed in another; in bytes. */
const longInOneTurn = 64 * 1024;
/** Uses that come into the index in one turn of the event loop. */
const usesAtOnce = 500;
/** Manifests that are read at the same time. */
const atOnce = 8;

export interface Sources {
  readonly inventory: Inventory;
  readonly blobs: BlobStore;
  readonly usage: UsageHistory;
  readonly inUse: Pick<InUseHistory, 'images'>;
  /** How long content of a repository is kept after its last use, in milliseconds; 0 for ever. */
  readonly ttlOf: (repository: Repository) => number;
}

export type Watch = Pick<JobRun, 'progress' | 'problem' | 'signal'>;

/**
 * Fills the index anew from the storage. Blobs come before links, as they do when they are stored: content that is
 * seen without a link had none for a while. The look goes on past what the storage does not give; the index then holds
 * what may depend on it. `earlier` is an index of this storage that knows references of before. Throws
 * StorageError where the storage as a whole is away, and what the signal was aborted with.
 */
export async function lookThrough(
  index: ContentIndex,
  sources: Sources,
  now: number,
  watch: Watch,
  earlier?: ContentIndex,
): Promise<void> {
  const { signal } = watch;
  await inPortions(index.clear(), signal);
  const look = new Look(index, sources, watch, earlier);
  await look.listBlobs();
  await look.listLinks();
  await look.readManifests();
  await look.readUses(now);
  await inPortions(index.settle(now), signal);
}

/** A replica's clock may be ahead of the storage's. */
export function notAfter(use: Use, now: number): Use {
  return use.at > now ? { ...use, at: now } : use;
}

/** A use of what came to be stored after the index was filled: what it refers to is in use as well. */
export async function learnLate(
  index: ContentIndex,
  { repository, digest, at }: Use,
  blobs: BlobStore,
  repositories: RepositoryStore,
  signal: AbortSignal,
): Promise<void> {
  if (await repositories.hasManifest(repository, digest)) {
    const bytes = await blobs.read(digest, longestManifest);
    const children = bytes === undefined ? [] : references(bytes);
    await inPortions(index.learn({ kind: 'manifest', repository, digest }, at, children), signal);
  } else if (await repositories.hasLayer(repository, digest)) {
    await inPortions(index.learn({ kind: 'layer', repository, digest }, at, []), signal);
  }
}

/** `undefined`: it is no manifest, or not what its digest says. Long ones take a while: a turn of the loop for each. */
async function readSound(digest: Digest, bytes: Buffer): Promise<ReturnType<typeof readManifest>> {
  await loopTurn();
  if (digestOf(bytes, algorithmOf(digest)) !== digest) return undefined;
  if (bytes.byteLength > longInOneTurn) await loopTurn();
  return readManifest(bytes);
}

/** One look through the storage. */
class Look {
  readonly #tolerance: Tolerance;
  /** Parts of the blobs could not be listed. */
  #blobsMissed = false;

  constructor(
    private readonly index: ContentIndex,
    private readonly sources: Sources,
    private readonly watch: Watch,
    private readonly earlier: ContentIndex | undefined,
  ) {
    this.#tolerance = new Tolerance(sources.inventory, watch);
  }

  async listBlobs(): Promise<void> {
    const { index, watch } = this;
    const skip = async ({ path, error }: Unlisted): Promise<void> => {
      this.#blobsMissed = true;
      await this.#tolerance.report(path, error);
    };
    for await (const page of this.sources.inventory.listBlobs(undefined, watch.signal, skip)) {
      index.addBlobs(page);
      watch.progress({ doing: 'listing blobs', done: index.blobs, total: undefined });
    }
  }

  async listLinks(): Promise<void> {
    const { index, watch } = this;
    const { inventory, ttlOf } = this.sources;
    const holds = new Set<Repository>();
    const skip = async ({ path, error, repository, onlyTags }: Unlisted): Promise<void> => {
      if (repository !== undefined) holds.add(repository);
      index.incomplete ||= onlyTags !== true;
      index.missesRepositories ||= onlyTags !== true && repository === undefined;
      await this.#tolerance.report(path, error);
    };
    let links = 0;
    for await (const page of inventory.listLinks(watch.signal, skip)) {
      await inPortions(index.addLinks(page, ttlOf), watch.signal);
      links += page.length;
      watch.progress({ doing: 'listing links', done: links, total: undefined });
    }
    for (const repository of holds) await inPortions(index.hold(repository), watch.signal);
  }

  async readManifests(): Promise<void> {
    const { index, watch } = this;
    let read = 0;
    if (this.#blobsMissed) await this.#readUnlisted();
    for (
      let page = index.queries.unreadManifests();
      page.length > 0;
      page = index.queries.unreadManifests()
    ) {
      await mapAtOnce(page, atOnce, watch.signal, (each) => this.#readManifest(each));
      read += page.length;
      watch.progress({ doing: 'reading manifests', done: read, total: undefined });
    }
  }

  /** Manifests in a part of the storage that was not listed may be there all the same. */
  async #readUnlisted(): Promise<void> {
    const { index, watch } = this;
    for (const page of index.queries.unlistedManifests()) {
      await mapAtOnce(page, atOnce, watch.signal, async (each) => {
        const found = await this.#tolerance.attempt(each.digest, () => this.sources.blobs.stat(each.digest));
        if (found === undefined) await this.#withoutReading(each);
        else if (found.value !== undefined) await this.#readManifest({ ...each, size: found.value });
      });
      await loopTurn();
    }
  }

  /** Content that is not what its digest says names nothing, until it is repaired. */
  async #readManifest({
    digest,
    contentId,
    size,
  }: Pick<IndexedBlob, 'digest' | 'contentId' | 'size'>): Promise<void> {
    const { index } = this;
    const { signal } = this.watch;
    if (size > longestManifest) {
      index.markNoManifest(contentId);
      return;
    }
    const read = await this.#tolerance.attempt(digest, () =>
      this.sources.blobs.read(digest, longestManifest),
    );
    if (read === undefined) {
      await this.#withoutReading({ digest, contentId });
      return;
    }
    const manifest = read.value && (await readSound(digest, read.value));
    if (manifest === undefined) index.markNoManifest(contentId);
    else await inPortions(index.addReferences(contentId, manifest.mediaType, manifest.references), signal);
  }

  async #withoutReading({ digest, contentId }: Pick<IndexedBlob, 'digest' | 'contentId'>): Promise<void> {
    const known = this.earlier?.queries.manifest(digest);
    const work =
      known === undefined
        ? this.index.markUnreadable(contentId)
        : this.index.addReferences(contentId, known.type, known.references);
    await inPortions(work, this.watch.signal);
  }

  async readUses(now: number): Promise<void> {
    const { index } = this;
    const { usage, inUse } = this.sources;
    const { signal } = this.watch;
    const unknown: UnknownUses[] = [];
    const skip = async (uses: UnknownUses): Promise<void> => {
      unknown.push(uses);
      await this.#tolerance.report(uses.record, uses.error);
    };
    for (const pages of [usage.snapshot(signal, skip), usage.noted(signal, skip)]) {
      for await (const page of pages) {
        index.addUses(page.map((use) => notAfter(use, now)));
        await loopTurn(); // many pages come from one record
      }
    }
    for (const page of pagesOf([...usage.unwritten()], usesAtOnce)) {
      index.addUses(page.map((use) => notAfter(use, now)));
      await loopTurn();
    }
    for (const { prefix, until } of unknown) {
      await inPortions(index.countAsUsed(prefix, Math.min(until, now)), signal);
    }
    const report = (record: string, error: Error): Promise<void> => this.#tolerance.report(record, error);
    for await (const page of inUse.images(signal, report)) index.addInUse(page, now);
  }
}
