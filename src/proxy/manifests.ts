import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import { LRUCache } from 'lru-cache';
import { storeSource, wholeBodies } from '../memory/budgets.js';
import type { Cluster } from '../cluster/cluster.js';
import { livingFor } from '../cluster/local/caches.js';
import { once } from '../cluster/once.js';
import { algorithmOf, digestOf, type Digest } from '../oci/digest.js';
import { inspectManifest, references } from '../oci/manifest.js';
import type { Repository } from '../oci/name.js';
import { mapAtOnce } from '../storage/pages.js';
import { DigestMismatch, type BlobStore, type RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { longestManifest, UpstreamError, type Upstream } from '../upstream/upstream.js';
import type { UsageRecorder } from '../usage/usage.js';
import type { ExpectedSizes } from './expected-sizes.js';
import type { Manifest, ManifestAnswer, Outcome, Resolved } from './proxy.js';
import { Refusals } from './remembered.js';
import type { StoreTrouble } from './store-trouble.js';
import { Deadline } from './deadline.js';

/** Clients give up on a manifest after 10 s (CRI-O's old default). */
const fetchMs = 8_000;
const memoryBytes = 32 * 1024 * 1024;
const entryOverhead = 512;
/** What the store did not take is fetched again after this: perhaps it does then. */
const unstoredMs = 60_000;
/** The most parts of a manifest that a replica renews, and how many at once. */
const mostParts = 1_000;
const partsAtOnce = 4;
const never = new AbortController().signal;

type StoredListener = (repository: Repository, digest: Digest) => Promise<void>;

interface Loaded {
  readonly manifest: Manifest;
  readonly outcome: Outcome;
}

/** Manifests by digest. They never change, so an upstream is asked for one at most once. */
export class Manifests {
  readonly #memory: LRUCache<string, Manifest>;
  readonly #loading = new SingleFlight<Loaded | undefined>();
  readonly #resolving = new SingleFlight<Resolved>();
  readonly #refusals = new Refusals();
  #stored: StoredListener = () => Promise.resolve();

  constructor(
    private readonly blobs: BlobStore,
    private readonly repositories: RepositoryStore,
    private readonly trouble: StoreTrouble,
    private readonly log: Logger,
    private readonly metrics: Metrics,
    private readonly cluster: Cluster,
    private readonly sizes: ExpectedSizes,
    private readonly usage: Pick<UsageRecorder, 'stored'>,
    /** A manifest is remembered for so many milliseconds, then read again. */
    lifetimeMs: number,
  ) {
    this.#memory = new LRUCache({
      maxSize: memoryBytes,
      sizeCalculation: (manifest) => manifest.size + entryOverhead,
      ...livingFor(lifetimeMs),
    });
  }

  /** Has somebody told, before anybody is answered, when a manifest became available under a repository. */
  whenStored(tell: StoredListener): void {
    this.#stored = tell;
  }

  /** From memory, with no input or output at all. */
  recall(repository: Repository, digest: Digest): Manifest | undefined {
    return this.#memory.get(`${repository}@${digest}`);
  }

  /** From memory, the store or the upstream. Throws UpstreamError, StorageError, DigestMismatch. */
  async get(route: Route, digest: Digest, signal: AbortSignal): Promise<ManifestAnswer | undefined> {
    const known = this.recall(route.stored, digest);
    const loaded =
      known === undefined
        ? await this.#load(route, digest, signal)
        : { manifest: known, outcome: 'hit' as const };
    return loaded && { manifest: loaded.manifest, resolved: resolved(loaded.manifest, loaded.outcome) };
  }

  /** What HEAD tells: as `get`, but what is not stored is only asked about, not transferred. */
  async head(route: Route, digest: Digest, signal: AbortSignal): Promise<Resolved | undefined> {
    const known = this.recall(route.stored, digest);
    if (known !== undefined) return resolved(known, 'hit');
    const key = `${route.stored}@${digest}`;
    const local = await this.trouble.read(route, () => this.#readStored(route.stored, digest, key));
    if (local !== undefined) return resolved(local, 'hit');
    const { upstream } = route;
    if (upstream === undefined) return undefined;
    this.#refusals.throwIfHeld(key);
    const asked = this.#resolving.join(key, () =>
      this.#ask(upstream, key, async (deadline) => {
        const descriptor = await upstream.headManifest(route.name, digest, deadline);
        return resolved({ ...descriptor, digest }, 'miss');
      }),
    );
    return waitFor(asked, signal);
  }

  #load(route: Route, digest: Digest, signal: AbortSignal): Promise<Loaded | undefined> {
    const key = `${route.stored}@${digest}`;
    const look = async (): Promise<Loaded | undefined> => {
      const manifest = await this.trouble.read(route, () => this.#readStored(route.stored, digest, key));
      return manifest && { manifest, outcome: 'hit' };
    };
    const loading = this.#loading.join(key, async () => {
      const stored = await look();
      const { upstream } = route;
      if (stored !== undefined || upstream === undefined) return stored;
      this.#refusals.throwIfHeld(key);
      return once(this.cluster.coordinator, `manifest:${key}`, fetchMs, look, async () => {
        const confirmed = await this.#confirmStored(upstream, route, digest, key);
        return confirmed ?? this.#fetch(upstream, route, digest, key);
      });
    });
    return waitFor(loading, signal);
  }

  async #readStored(repository: Repository, digest: Digest, key: string): Promise<Manifest | undefined> {
    const known = await this.cluster.descriptors.get(key);
    if (known === undefined && !(await this.repositories.hasManifest(repository, digest))) return undefined;
    using holding = wholeBodies.open(storeSource);
    const bytes = await this.blobs.read(digest, longestManifest, (size) => holding.grow(size));
    const manifest = bytes && this.#describeStored(digest, bytes);
    if (manifest === undefined) {
      if (known !== undefined) this.cluster.descriptors.drop(key);
      return undefined;
    }
    this.#memory.set(key, manifest);
    this.sizes.note(repository, manifest.bytes);
    if (known === undefined) {
      this.cluster.descriptors.put(key, { digest, size: manifest.size, mediaType: manifest.mediaType });
    }
    return manifest;
  }

  /** Damaged content is as good as absent: it is fetched again. */
  #describeStored(digest: Digest, bytes: Buffer): Manifest | undefined {
    if (digestOf(bytes, algorithmOf(digest)) === digest) return describe(digest, bytes);
    this.sizes.tell('manifest', digest, bytes.byteLength);
    return undefined;
  }

  /** Content that another repository brought is served here once this repository's upstream confirms it (rule 7). */
  async #confirmStored(
    upstream: Upstream,
    route: Route,
    digest: Digest,
    key: string,
  ): Promise<Loaded | undefined> {
    const size = await this.trouble.survive(() => this.blobs.stat(digest));
    if (size === undefined || size > longestManifest) return undefined;
    const said = await this.#ask(upstream, key, (deadline) =>
      upstream.headManifest(route.name, digest, deadline),
    );
    if (said.size !== size) return undefined; // the caller fetches the manifest from the upstream
    const adopting = this.trouble.survive(async () => {
      if ((await this.blobs.renew(digest)) === undefined) return undefined;
      await this.repositories.linkManifest(route.stored, digest);
      const manifest = await this.#readStored(route.stored, digest, key);
      if (manifest === undefined) return undefined;
      void this.#renewParts(route.stored, manifest);
      await this.#stored(route.stored, digest);
      return { manifest, outcome: 'revalidated' as const };
    });
    return this.trouble.awaitWrite(adopting);
  }

  async #fetch(upstream: Upstream, route: Route, digest: Digest, key: string): Promise<Loaded> {
    const { bytes } = await this.#ask(upstream, key, (deadline) =>
      upstream.fetchManifest(route.name, digest, deadline),
    );
    this.metrics.proxyPulledBytes.inc({ type: 'manifest' }, bytes.byteLength);
    const manifest = this.#verify(upstream, digest, bytes);
    const holding = wholeBodies.open(upstream.host);
    await holding.grow(bytes.byteLength);
    this.sizes.note(route.stored, bytes);
    // The manifest is verified, so clients get it although the store may not take it.
    this.#memory.set(key, manifest, { ttl: unstoredMs });
    await this.trouble.awaitWrite(this.#store(upstream, route, key, manifest, holding));
    return { manifest, outcome: 'miss' };
  }

  /** Stores a manifest, however slow the store is. The holding ends with it. Never throws. */
  async #store(
    upstream: Upstream,
    route: Route,
    key: string,
    manifest: Manifest,
    holding: Disposable,
  ): Promise<void> {
    using _held = holding;
    const { digest, size, mediaType, bytes } = manifest;
    const facts = { upstream: upstream.host, repository: route.name, digest, bytes: size };
    try {
      await this.blobs.put(digest, bytes);
      await this.repositories.linkManifest(route.stored, digest);
      this.#memory.set(key, manifest);
      void this.#renewParts(route.stored, manifest);
      this.cluster.descriptors.put(key, { digest, size, mediaType });
      await this.#stored(route.stored, digest);
      this.metrics.storageUploadBytes.inc(size);
      this.usage.stored(size);
      this.log.info({ ...facts, mediaType }, 'manifest stored');
    } catch (err) {
      this.log.error({ ...facts, err }, 'manifest not stored');
    }
  }

  /**
   * The parts of a manifest may be stored without a link, and about to be deleted. No client waits for their renewal: a
   * part that is deleted all the same is fetched again when a client asks for it. Never throws.
   */
  async #renewParts(repository: Repository, { bytes }: Manifest): Promise<void> {
    const parts = references(bytes).slice(0, mostParts);
    try {
      await mapAtOnce(parts, partsAtOnce, never, async ({ kind, digest }) => {
        const isLinked =
          kind === 'manifest'
            ? await this.repositories.hasManifest(repository, digest)
            : await this.repositories.hasLayer(repository, digest);
        if (!isLinked) await this.blobs.renew(digest);
      });
    } catch (err) {
      this.log.warn({ repository, err }, 'parts of a manifest were not renewed');
    }
  }

  #verify(upstream: Upstream, digest: Digest, bytes: Buffer): Manifest {
    const found = digestOf(bytes, algorithmOf(digest));
    if (found !== digest) {
      this.metrics.mismatches.inc({ upstream: upstream.host, type: 'manifest' });
      const cause = new DigestMismatch(digest, found, undefined, bytes.byteLength);
      this.log.error({ upstream: upstream.host, err: cause }, 'manifest not stored');
      throw new UpstreamError('invalid', upstream.host, cause.message, { cause });
    }
    const manifest = describe(digest, bytes);
    if (manifest === undefined) {
      throw new UpstreamError('invalid', upstream.host, `sent what is no manifest as ${digest}`);
    }
    return manifest;
  }

  async #ask<T>(
    upstream: Upstream,
    key: string,
    question: (deadline: AbortSignal) => Promise<T>,
  ): Promise<T> {
    using deadline = new Deadline(fetchMs, upstream.host, 'a request for a manifest');
    try {
      return await question(deadline.signal);
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'answer') this.#refusals.remember(key, error);
      throw error;
    }
  }
}

function describe(digest: Digest, bytes: Buffer): Manifest | undefined {
  const facts = inspectManifest(bytes);
  return facts && { digest, size: bytes.byteLength, mediaType: facts.mediaType, bytes };
}

function resolved({ digest, size, mediaType }: Omit<Manifest, 'bytes'>, outcome: Outcome): Resolved {
  return { descriptor: { digest, size, mediaType }, outcome, age: undefined, warning: undefined };
}
