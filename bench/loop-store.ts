import { LocalCoordinator } from '../src/cluster/local/coordinator.js';
import { BlobRemoval } from '../src/content/blob-removal.js';
import { digestOf, type Digest } from '../src/oci/digest.js';
import { mostReferences, ociIndex, ociManifest } from '../src/oci/manifest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../src/oci/name.js';
import type {
  BlobStore,
  Deletes,
  Inventory,
  RepositoryStore,
  StoredBlob,
  StoredLink,
} from '../src/storage/storage.js';
import { formatJournal, journalKey, useKey } from '../src/usage/records.js';
import { MemoryRecords } from '../test/fakes/memory-records.js';
import { known } from './large-store.js';

export const counts = {
  images: 8_000,
  /** Of each image, besides one layer that all images have. */
  ownLayers: 7,
  imagesPerRepository: 100,
  /** Image manifests of as many layers as a manifest may name, and an index of them. */
  wide: 6,
  /** Indexes, each of which names the one before. */
  deep: 5_000,
  /** Levels of two indexes, each of which names both of the level below: 2 to the power of this many ways. */
  doubled: 25,
  /** Manifests that name nothing. */
  empty: 15_000,
  /** Tags of one manifest. */
  tags: 200_000,
} as const;
const usesPerJournal = 20_000;
const blobSize = 1_000_000;
const daySeconds = 86_400;
/** From the image that was used least recently to the last one. */
const usedDaysAgo = { first: 30, last: 1 };

/** A storage in memory, whose answers come in a later turn of the event loop, as those of a real one. */
export class LoopStore {
  readonly records = new MemoryRecords();
  readonly #now = Math.floor(Date.now() / 1000);
  readonly #blobs = new Map<Digest, { readonly bytes: Buffer; readonly size: number; readonly at: number }>();
  readonly #links = new Map<string, StoredLink>();
  #uses = new Map<string, number>();
  #journals = 0;

  constructor() {
    const base = this.#addBlob(Buffer.from('base'), this.#now, blobSize);
    for (let n = 0; n < counts.images; n += 1) this.#addImage(n, base);
    this.#addWide();
    this.#addDeep();
    this.#addDoubled();
    this.#addEmpty();
    this.#addTags();
    this.#writeJournal();
  }

  get size(): { readonly links: number; readonly blobs: number } {
    return { links: this.#links.size, blobs: this.#blobs.size };
  }

  readonly inventory: Inventory = {
    listBlobs: () => this.#listBlobs(),
    listLinks: () => inLaterTurns([...this.#links.values()]),
    now: () => later(Date.now()),
  };

  readonly blobs: BlobStore = {
    stat: (digest) => later(this.#blobs.get(digest)?.size),
    read: (digest) => later(this.#blobs.get(digest)?.bytes),
    open: (digest) => {
      const found = this.#blobs.get(digest);
      const close = (): Promise<void> => Promise.resolve();
      return later(found && { size: found.size, range: undefined, body: inOneChunk(found.bytes), close });
    },
    renew: unused,
    take: unused,
    put: unused,
  };

  readonly deletes: Deletes = {
    deleteBlob: (digest) => {
      this.#blobs.delete(digest);
      return later(true);
    },
    condemnBlob: unused,
    unlinkLayer: (repository, digest) => this.#unlink(`layer ${repository}@${digest}`),
    unlinkManifest: (repository, digest) => this.#unlink(`manifest ${repository}@${digest}`),
    deleteTag: (repository, tag) => this.#unlink(`tag ${repository}:${tag}`),
  };

  readonly repositories: RepositoryStore = {
    hasLayer: (repository, digest) => later(this.#links.has(`layer ${repository}@${digest}`)),
    hasManifest: (repository, digest) => later(this.#links.has(`manifest ${repository}@${digest}`)),
    readTag: (repository, tag) => later(this.#links.get(`tag ${repository}:${tag}`)?.digest),
    linkLayer: unused,
    linkManifest: unused,
    writeTag: unused,
    listTags: unused,
    listRepositories: unused,
  };

  readonly removal = new BlobRemoval({
    deletes: this.deletes,
    coordinator: () => new LocalCoordinator(),
    transferring: () => false,
  });

  async *#listBlobs(): AsyncGenerator<readonly StoredBlob[]> {
    for await (const page of inLaterTurns([...this.#blobs])) {
      yield page.map(([digest, { size, at }]) => ({ digest, size, modifiedMs: at * 1000 }));
    }
  }

  #unlink(key: string): Promise<void> {
    this.#links.delete(key);
    return later(undefined);
  }

  #addImage(n: number, base: Digest): void {
    const repository = repositoryOf(`bench/app-${Math.floor(n / counts.imagesPerRepository)}`);
    const at = this.#usedAt(n / counts.images);
    const parts = Array.from({ length: counts.ownLayers + 1 }, (_, part) =>
      this.#addBlob(Buffer.from(`${n}/${part}`), at, blobSize),
    );
    const [config, ...layers] = [...parts, base].map((digest) => ({ digest, size: blobSize }));
    const manifest = this.#addManifest({ mediaType: ociManifest, config, layers }, at);
    for (const digest of [...parts, base]) this.#addLink({ kind: 'layer', repository, digest }, at);
    this.#addLink({ kind: 'manifest', repository, digest: manifest }, at);
    this.#addTag(repository, `v${n}`, manifest);
  }

  #addWide(): void {
    const repository = repositoryOf('bench/wide');
    const at = this.#usedAt(0.25);
    const manifests = Array.from({ length: counts.wide }, (_, n) => {
      const layers = Array.from({ length: mostReferences }, (_, part) => ({
        digest: digestOf(Buffer.from(`${n % 2}/${part}/wide`)),
        size: blobSize,
      }));
      const annotations = { n: String(n) };
      const digest = this.#addManifest({ mediaType: ociManifest, layers, annotations }, at);
      this.#addLink({ kind: 'manifest', repository, digest }, at);
      return { digest, mediaType: ociManifest };
    });
    const top = this.#addManifest({ mediaType: ociIndex, manifests }, at);
    this.#addLink({ kind: 'manifest', repository, digest: top }, at);
    this.#addTag(repository, 'top', top);
  }

  #addDeep(): void {
    const repository = repositoryOf('bench/deep');
    const at = this.#usedAt(0.25);
    let manifests: { digest: Digest; mediaType: string }[] = [];
    for (let level = 0; level < counts.deep; level += 1) {
      const digest = this.#addManifest({ mediaType: ociIndex, manifests }, at);
      this.#addLink({ kind: 'manifest', repository, digest }, at + level);
      manifests = [{ digest, mediaType: ociIndex }];
    }
    this.#addTag(repository, 'top', known(manifests[0]).digest);
  }

  #addDoubled(): void {
    const repository = repositoryOf('bench/doubled');
    const at = this.#usedAt(0.25);
    let manifests: { digest: Digest; mediaType: string }[] = [];
    for (let level = 0; level < counts.doubled; level += 1) {
      manifests = ['left', 'right'].map((side) => {
        const annotations = { side };
        const digest = this.#addManifest({ mediaType: ociIndex, manifests, annotations }, at);
        this.#addLink({ kind: 'manifest', repository, digest }, at + level);
        return { digest, mediaType: ociIndex };
      });
    }
    this.#addTag(repository, 'top', known(manifests[0]).digest);
  }

  /** Half of them are in indexes that were used later than they. */
  #addEmpty(): void {
    const repository = repositoryOf('bench/empty');
    const at = this.#usedAt(0.25);
    const manifests = Array.from({ length: counts.empty }, (_, n) => {
      const digest = this.#addManifest(
        { mediaType: ociManifest, layers: [], annotations: { n: String(n) } },
        at,
      );
      this.#addLink({ kind: 'manifest', repository, digest }, at);
      return { digest, mediaType: ociManifest };
    });
    for (let from = 0; from < manifests.length / 2; from += mostReferences) {
      const part = manifests.slice(from, from + mostReferences);
      const index = this.#addManifest({ mediaType: ociIndex, manifests: part }, at);
      this.#addLink({ kind: 'manifest', repository, digest: index }, at + daySeconds);
      this.#addTag(repository, `all-${from}`, index);
    }
  }

  #addTags(): void {
    const repository = repositoryOf('bench/tags');
    const at = this.#usedAt(0.25);
    const digest = this.#addManifest({ mediaType: ociManifest, layers: [], annotations: { n: 'tags' } }, at);
    this.#addLink({ kind: 'manifest', repository, digest }, at);
    for (let n = 0; n < counts.tags; n += 1) this.#addTag(repository, `nightly-${n}`, digest);
  }

  /** `part`: from 0, used least recently, to 1. */
  #usedAt(part: number): number {
    const { first, last } = usedDaysAgo;
    return Math.floor(this.#now - daySeconds * (first - (first - last) * part));
  }

  #addManifest(document: object, at: number): Digest {
    const bytes = Buffer.from(JSON.stringify(document));
    return this.#addBlob(bytes, at, bytes.byteLength);
  }

  #addBlob(bytes: Buffer, at: number, size: number): Digest {
    const digest = digestOf(bytes);
    this.#blobs.set(digest, { bytes, size, at });
    return digest;
  }

  #addLink(link: StoredLink & { readonly kind: 'layer' | 'manifest' }, at: number): void {
    this.#links.set(`${link.kind} ${link.repository}@${link.digest}`, link);
    this.#uses.set(useKey(link.repository, link.digest), at);
    if (this.#uses.size >= usesPerJournal) this.#writeJournal();
  }

  #addTag(repository: Repository, name: string, digest: Digest): void {
    const tag: Tag = known(parseTag(name));
    this.#links.set(`tag ${repository}:${tag}`, { kind: 'tag', repository, tag, digest });
  }

  #writeJournal(): void {
    const key = journalKey(`bench${(this.#journals += 1)}`, this.#now * 1000);
    this.records.records.set(key, formatJournal(0, this.#uses));
    this.#uses = new Map();
  }
}

function repositoryOf(name: string): Repository {
  return known(parseRepository(name));
}

function later<T>(value: T): Promise<T> {
  return new Promise((resolve) => setImmediate(resolve, value));
}

function unused(): never {
  throw new Error('not in this storage');
}

async function* inOneChunk(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield later(bytes);
}

async function* inLaterTurns<T>(items: readonly T[]): AsyncGenerator<readonly T[]> {
  for (let from = 0; from < items.length; from += 1_000) yield later(items.slice(from, from + 1_000));
}
