import { setImmediate as breathe } from 'node:timers/promises';
import { algorithmOf, digestOf, type Digest } from '../oci/digest.js';
import { inspectManifest, references } from '../oci/manifest.js';
import type { Repository } from '../oci/name.js';
import type { JobRun } from '../scheduler/job.js';
import { mapAtOnce } from '../storage/pages.js';
import type { BlobStore, Inventory, RepositoryStore } from '../storage/storage.js';
import type { InUseHistory, Use, UsageHistory } from '../usage/usage.js';
import type { ContentIndex } from './content-index.js';
import type { IndexedBlob } from './index-queries.js';

/** As long as the distribution-spec wants manifests to be taken. */
const longestManifest = 4 * 1024 * 1024;
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
 * Fills the index anew from the storage. Blobs come before links, as they do when they are stored: what is seen
 * without a link had none for a while. Throws StorageError, and what the signal was aborted with.
 */
export async function lookThrough(
  index: ContentIndex,
  { inventory, blobs, usage, inUse, ttlOf }: Sources,
  now: number,
  watch: Watch,
): Promise<void> {
  const { signal } = watch;
  await inPortions(index.clear(), signal);
  for await (const page of inventory.listBlobs(undefined, signal)) {
    index.addBlobs(page);
    watch.progress({ doing: 'listing blobs', done: index.blobs, total: undefined });
  }
  let links = 0;
  for await (const page of inventory.listLinks(signal)) {
    index.addLinks(page, ttlOf);
    links += page.length;
    watch.progress({ doing: 'listing links', done: links, total: undefined });
  }
  await readManifests(index, blobs, watch);
  for (const pages of [usage.snapshot(signal), usage.noted(signal)]) {
    for await (const page of pages) {
      index.addUses(page);
      await breathe(); // many pages come from one record
    }
  }
  index.addUses([...usage.unwritten()]);
  for await (const page of inUse.images(signal)) index.addInUse(page, now);
  await inPortions(index.settle(now), signal);
}

/** Takes the steps of long work one by one, and lets others work in between. */
export async function inPortions(work: Generator<void>, signal: AbortSignal): Promise<void> {
  for (const _ of work) {
    signal.throwIfAborted();
    await breathe();
  }
}

type Unread = Pick<IndexedBlob, 'digest' | 'contentId'>;

/** A use of what came to be stored after the index was filled: what it refers to is in use as well. */
export async function learnLate(
  index: ContentIndex,
  { repository, digest, at }: Use,
  blobs: BlobStore,
  repositories: RepositoryStore,
): Promise<void> {
  if (await repositories.hasManifest(repository, digest)) {
    const bytes = await blobs.read(digest, longestManifest);
    index.learn({ kind: 'manifest', repository, digest }, at, bytes === undefined ? [] : references(bytes));
  } else if (await repositories.hasLayer(repository, digest)) {
    index.learn({ kind: 'layer', repository, digest }, at, []);
  }
}

/** Content that is not to be deleted after all: neither is what it refers to, if it is a manifest. */
export async function rescue(index: ContentIndex, digest: Digest, blobs: BlobStore): Promise<void> {
  const size = await blobs.stat(digest);
  const bytes =
    size === undefined || size > longestManifest ? undefined : await blobs.read(digest, longestManifest);
  index.rescue(digest, bytes === undefined ? [] : references(bytes));
}

async function readManifests(index: ContentIndex, blobs: BlobStore, watch: Watch): Promise<void> {
  let read = 0;
  const readAll = async (manifests: readonly Unread[]): Promise<void> => {
    const found = await mapAtOnce(manifests, atOnce, watch.signal, (each) =>
      readManifest(index, blobs, each),
    );
    read += found.length;
    watch.progress({ doing: 'reading manifests', done: read, total: undefined });
    for (const further of found) if (further.length > 0) await readAll(further);
  };
  for (let page = index.queries.unreadManifests(undefined, longestManifest); page.length > 0;) {
    await readAll(page);
    page = index.queries.unreadManifests(page.at(-1), longestManifest);
  }
}

/** Returns what it refers to and is to be read as well. What is rotten refers to nothing, until it is repaired. */
async function readManifest(
  index: ContentIndex,
  blobs: BlobStore,
  { digest, contentId }: Unread,
): Promise<IndexedBlob[]> {
  const bytes = await blobs.read(digest, longestManifest);
  if (bytes === undefined || digestOf(bytes, algorithmOf(digest)) !== digest) return [];
  const type = inspectManifest(bytes)?.mediaType;
  return type === undefined ? [] : index.addReferences(contentId, type, references(bytes), longestManifest);
}
