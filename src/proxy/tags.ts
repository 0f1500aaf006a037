import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import { LRUCache } from 'lru-cache';
import { bytesOfDescriptor, within } from '../cluster/local/caches.js';
import type { Cluster } from '../cluster/cluster.js';
import { once } from '../cluster/once.js';
import type { Descriptor } from '../oci/descriptor.js';
import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { troubleOf, UpstreamError, type Upstream } from '../upstream/upstream.js';
import type { Manifests } from './manifests.js';
import type { Outcome, Resolved } from './proxy.js';
import { Refusals } from './remembered.js';
import type { StoreTrouble } from './store-trouble.js';
import { Deadline } from './deadline.js';

/** With something to fall back on, a client waits no longer than this for an upstream. */
const cachedMs = 3_000;
/** Without, as long as clients wait for a manifest. */
const uncachedMs = 8_000;
/** While an upstream is in trouble, a tag is asked about again after this, without anybody waiting for it. */
const troubleMs = 5_000;

/** A tag that was asked for, but whose manifest nobody wants, is not written. */
const awaitMs = 10 * 60_000;
const lookMs = 5_000;

const mostStateBytes = 24 * 1024 * 1024;
const bytesOfState = (state: TagState, key: string): number => bytesOfDescriptor(state.descriptor, key) + 100;

const mostAwaitingBytes = 4 * 1024 * 1024;
/** A tag has at most 128 characters. */
const bytesOfAwaiting = (tags: ReadonlySet<Tag>, key: string): number => key.length + 200 + 200 * tags.size;

interface TagState {
  readonly descriptor: Descriptor;
  /** When the upstream last confirmed it, by this process's clock; `undefined`: before this process. */
  readonly confirmedAt: number | undefined;
  /** Until when it is served without asking. */
  readonly until: number;
  /** The last try to ask failed: answers are stale until one succeeds. */
  readonly trouble: UpstreamError | undefined;
  /** Whether the store's tag is known to be the same, or this process sees to it. */
  readonly pointed: boolean;
  /** When the store's tag was last read or written, by this process's clock. */
  readonly checkedAt: number;
}

/**
 * Tags: where they point, how fresh that is. Within `freshness` nobody is asked; after it one HEAD is, however many
 * clients wait; and in trouble the cached digest is served, at once as soon as the trouble is known.
 */
export class Tags {
  readonly #states = new LRUCache<string, TagState>(within(mostStateBytes, bytesOfState));
  /** Tags that were answered before their manifest was stored, by `repository@digest`: written when it is. */
  readonly #awaiting = new LRUCache<string, Set<Tag>>({
    ...within(mostAwaitingBytes, bytesOfAwaiting),
    ttl: awaitMs,
  });
  #looks = false;
  #moved: () => void = () => undefined;
  readonly #asking = new SingleFlight<Resolved | undefined>();
  readonly #checking = new SingleFlight<void>();
  readonly #refusals = new Refusals();

  constructor(
    private readonly repositories: RepositoryStore,
    private readonly manifests: Manifests,
    private readonly freshnessMs: number,
    private readonly trouble: StoreTrouble,
    private readonly log: Logger,
    private readonly metrics: Metrics,
    private readonly cluster: Cluster,
    /** What was seen of the store's tag holds for so many milliseconds: it may have been removed since. */
    private readonly lifetimeMs: number,
  ) {
    manifests.whenStored((repository, digest) => this.#writeAwaiting(repository, digest));
  }

  /** Has somebody told when what was answered for a tag is no longer right. */
  whenMoved(tell: () => void): void {
    this.#moved = tell;
  }

  /** From memory while it is fresh, with no input or output at all. */
  recall(repository: Repository, tag: Tag): Resolved | undefined {
    const state = this.#states.get(`${repository}:${tag}`);
    if (state === undefined || state.trouble !== undefined) return undefined;
    const until = Math.min(state.until, state.checkedAt + this.lifetimeMs);
    return until > performance.now() ? { ...answer(state, 'hit'), until } : undefined;
  }

  /** Where the tag points. `undefined` without upstream and cache; throws UpstreamError, StorageError. */
  async resolve(route: Route, tag: Tag, signal: AbortSignal): Promise<Resolved | undefined> {
    const key = `${route.stored}:${tag}`;
    let fresh = this.recall(route.stored, tag);
    if (fresh === undefined && (await this.#checkAgain(route.stored, tag, key, signal))) {
      fresh = this.recall(route.stored, tag);
    }
    if (fresh !== undefined) return fresh;
    const { upstream } = route;
    if (upstream === undefined) return this.#offline(route, tag, signal);
    this.#refusals.throwIfHeld(key);
    const state = this.#states.get(key);
    const asking = (): Promise<Resolved | undefined> =>
      this.#asking.join(key, () => this.#ask(upstream, route, tag, key));
    const longer = this.#lengthen(upstream, key, state);
    if (longer !== undefined) return answer(longer, 'hit');
    if (state?.trouble === undefined) return waitFor(asking(), signal);
    if (state.until <= performance.now()) {
      asking().catch((err: unknown) =>
        this.log.debug({ err, tag: key }, 'asking again in the background failed'),
      );
    }
    return this.#stale(upstream, state, state.trouble);
  }

  /**
   * Asks the upstream now, however fresh the tag is, and what it says counts for everybody. Throws as `resolve`, also
   * when the upstream cannot be asked and something is cached.
   */
  async refresh(route: Route, tag: Tag, signal: AbortSignal): Promise<Resolved | undefined> {
    const key = `${route.stored}:${tag}`;
    const { upstream } = route;
    if (upstream === undefined) return this.#offline(route, tag, signal);
    const asking = this.#asking.join(`now ${key}`, async () => {
      const cached = await this.repositories.readTag(route.stored, tag);
      try {
        return await this.#revalidate(upstream, route, tag, key, cached);
      } catch (error) {
        this.#forgetRefused(key, error);
        throw error;
      }
    });
    return waitFor(asking, signal);
  }

  /**
   * Looks at the store's tag where that was long ago. Whatever the upstream said of it, a tag that was removed is to
   * be asked for, and written, anew. `false`: there was no need.
   */
  async #checkAgain(repository: Repository, tag: Tag, key: string, signal: AbortSignal): Promise<boolean> {
    const state = this.#states.get(key);
    if (state === undefined || state.checkedAt + this.lifetimeMs > performance.now()) return false;
    const checking = this.#checking.join(key, () => this.#check(repository, tag, key));
    await waitFor(checking, signal);
    return true;
  }

  async #check(repository: Repository, tag: Tag, key: string): Promise<void> {
    const isOther = await this.trouble.survive(async () => {
      const stored = await this.repositories.readTag(repository, tag);
      return stored !== this.#states.get(key)?.descriptor.digest;
    });
    const state = this.#states.get(key);
    if (state === undefined) return;
    if (isOther !== true) this.#states.set(key, { ...state, checkedAt: performance.now() });
    else this.#forget(key);
  }

  /** While little is left of the upstream's pull limit, what it said holds longer. */
  #lengthen(upstream: Upstream, key: string, state: TagState | undefined): TagState | undefined {
    if (state?.confirmedAt === undefined || state.trouble !== undefined) return undefined;
    const now = performance.now();
    const holds = state.confirmedAt + this.#freshnessOf(upstream);
    if (holds <= now) return undefined;
    // A new window is noticed after the usual time.
    const longer = { ...state, until: Math.min(holds, now + this.freshnessMs) };
    this.#states.set(key, longer);
    return longer;
  }

  #freshnessOf({ budget }: Upstream): number {
    return this.freshnessMs * (budget?.freshnessFactor ?? 1);
  }

  /** The manifest that these tags wait for is stored: now they may point to it (rule 2). */
  async #writeAwaiting(repository: Repository, digest: Digest): Promise<void> {
    const key = `${repository}@${digest}`;
    const tags = this.#awaiting.get(key);
    if (tags === undefined) return;
    this.#awaiting.delete(key);
    for (const tag of tags) {
      // It may have moved on since.
      if (this.#states.get(`${repository}:${tag}`)?.descriptor.digest === digest) {
        await this.#seeToTag(repository, tag, digest, () =>
          this.repositories.writeTag(repository, tag, digest),
        );
      }
    }
  }

  async #offline(route: Route, tag: Tag, signal: AbortSignal): Promise<Resolved | undefined> {
    const digest = await this.repositories.readTag(route.stored, tag);
    return digest && (await this.manifests.head(route, digest, signal));
  }

  async #ask(upstream: Upstream, route: Route, tag: Tag, key: string): Promise<Resolved | undefined> {
    const look = (): Promise<Resolved | undefined> => this.#askReplicas(upstream, key);
    const shared = await look();
    if (shared !== undefined) return shared;
    const cached =
      this.#states.get(key)?.descriptor.digest ??
      (await this.trouble.survive(() => this.repositories.readTag(route.stored, tag)));
    const patience = cached === undefined ? uncachedMs : cachedMs;
    try {
      return await once(this.cluster.coordinator, `tag:${key}`, patience, look, () =>
        this.#revalidate(upstream, route, tag, key, cached),
      );
    } catch (error) {
      this.#forgetRefused(key, error);
      const trouble = troubleOf(error, upstream.host);
      if (trouble === undefined || cached === undefined) throw error;
      return this.#fallBack(upstream, route, key, cached, trouble);
    }
  }

  #forgetRefused(key: string, error: unknown): void {
    if (!(error instanceof UpstreamError) || error.kind !== 'answer') return;
    this.#forget(key);
    this.cluster.tags.drop(key);
    this.#refusals.remember(key, error);
  }

  #forget(key: string): void {
    this.#states.delete(key);
    this.#moved();
  }

  #confirm(key: string, state: TagState): void {
    const before = this.#states.get(key);
    this.#states.set(key, state);
    if (before !== undefined && before.descriptor.digest !== state.descriptor.digest) this.#moved();
  }

  /** What another replica was told within the freshness time. That one sees to the store's tag. */
  async #askReplicas(upstream: Upstream, key: string): Promise<Resolved | undefined> {
    const found = await this.cluster.tags.get(key);
    if (found === undefined || found.ageMs >= this.#freshnessOf(upstream)) return undefined;
    const confirmedAt = performance.now() - found.ageMs;
    const { descriptor } = found;
    const until = Math.min(confirmedAt + this.#freshnessOf(upstream), performance.now() + this.freshnessMs);
    const checkedAt = this.#checkedAt(key, descriptor.digest);
    const state = { descriptor, confirmedAt, until, trouble: undefined, pointed: false, checkedAt };
    this.#confirm(key, state);
    return answer(state, 'hit');
  }

  async #revalidate(
    upstream: Upstream,
    route: Route,
    tag: Tag,
    key: string,
    cached: Digest | undefined,
  ): Promise<Resolved> {
    const began = performance.now();
    const sharedBegan = await this.cluster.tags.now();
    using deadline = new Deadline(
      cached === undefined ? uncachedMs : cachedMs,
      upstream.host,
      'HEAD of a tag',
    );
    const descriptor = await upstream.headManifest(route.name, tag, deadline.signal);
    const moved = descriptor.digest !== cached;
    // What clients have now stays right until the new manifest is here too: HEAD may work where GET is refused.
    if (moved && cached !== undefined) await this.manifests.get(route, descriptor.digest, deadline.signal);
    const latest = sharedBegan === undefined || (await this.cluster.tags.put(key, descriptor, sharedBegan));
    if (!latest) {
      const later = await this.#askReplicas(upstream, key);
      if (later !== undefined) return later;
    }
    const until = began + this.freshnessMs;
    const checkedAt = this.#checkedAt(key, descriptor.digest);
    const state = { descriptor, confirmedAt: began, until, trouble: undefined, pointed: latest, checkedAt };
    const pointed = this.#states.get(key)?.pointed ?? true;
    this.#confirm(key, state);
    const write = (): Promise<void> => this.#point(route.stored, tag, descriptor.digest);
    const check = (): Promise<void> => this.#pointAgain(route.stored, tag, descriptor.digest);
    if (latest && (moved || !pointed)) {
      const written = this.#seeToTag(route.stored, tag, descriptor.digest, moved ? write : check).catch(
        (err: unknown) => this.log.error({ err, tag: key }, 'a tag could not be written'),
      );
      if (moved) await this.trouble.awaitWrite(written);
    }
    return answer(state, moved ? 'miss' : 'revalidated');
  }

  /** Clients have their answer whatever becomes of the store's tag: in trouble it is seen to at the next revalidation. */
  async #seeToTag(
    repository: Repository,
    tag: Tag,
    digest: Digest,
    write: () => Promise<void>,
  ): Promise<void> {
    const written = await this.trouble.survive(async () => {
      await write();
      return true;
    });
    const key = `${repository}:${tag}`;
    const state = this.#states.get(key);
    if (written === undefined && state?.descriptor.digest === digest) {
      this.#states.set(key, { ...state, pointed: false });
    }
  }

  /** The replica that was told of this digest may have died before it wrote the tag. */
  async #pointAgain(repository: Repository, tag: Tag, digest: Digest): Promise<void> {
    if ((await this.repositories.readTag(repository, tag)) !== digest) {
      await this.#point(repository, tag, digest);
    }
  }

  /** Writes the tag if its manifest is stored, else when it will be. */
  async #point(repository: Repository, tag: Tag, digest: Digest): Promise<void> {
    if (await this.repositories.hasManifest(repository, digest)) {
      await this.repositories.writeTag(repository, tag, digest);
      return;
    }
    const key = `${repository}@${digest}`;
    const tags = this.#awaiting.get(key);
    this.#awaiting.set(key, new Set(tags).add(tag)); // set anew, so that the cache weighs it again
    if (!this.#looks) this.#lookLater();
  }

  #lookLater(): void {
    this.#looks = true;
    setTimeout(() => void this.#lookForAwaited(), lookMs).unref();
  }

  /** Another replica may have stored what a tag waits for here. */
  async #lookForAwaited(): Promise<void> {
    const keys = [...this.#awaiting.keys()]; // those that are written leave it
    for (const key of keys) {
      const at = key.lastIndexOf('@');
      const repository = key.slice(0, at) as Repository;
      const digest = key.slice(at + 1) as Digest;
      try {
        const isHere = await this.trouble.survive(() => this.repositories.hasManifest(repository, digest));
        if (isHere === true) await this.#writeAwaiting(repository, digest);
      } catch (err) {
        this.log.error({ err, manifest: key }, 'tags could not be written');
      }
    }
    this.#looks = false;
    if (this.#awaiting.size > 0) this.#lookLater();
  }

  /** Trouble: the cached digest goes on being served, and clients no longer wait for the upstream. */
  async #fallBack(
    upstream: Upstream,
    route: Route,
    key: string,
    cached: Digest,
    trouble: UpstreamError,
  ): Promise<Resolved | undefined> {
    const before = this.#states.get(key);
    const signal = AbortSignal.timeout(cachedMs);
    const descriptor = before?.descriptor ?? (await this.manifests.head(route, cached, signal))?.descriptor;
    if (descriptor === undefined) throw trouble;
    const pause = Math.min(Math.max(trouble.retryAfterMs ?? 0, troubleMs), 60_000);
    const state = {
      descriptor,
      confirmedAt: before?.confirmedAt,
      until: performance.now() + pause,
      trouble,
      pointed: before?.pointed ?? true,
      checkedAt: this.#checkedAt(key, cached),
    };
    this.#states.set(key, state);
    if (before?.trouble === undefined) {
      this.log.warn({ upstream: upstream.host, tag: key, err: trouble }, 'serving a tag stale');
    }
    return this.#stale(upstream, state, trouble);
  }

  /** Another digest is about to be written, and one that is new here has just been read. */
  #checkedAt(key: string, digest: Digest): number {
    const before = this.#states.get(key);
    return before?.descriptor.digest === digest ? before.checkedAt : performance.now();
  }

  #stale(upstream: Upstream, state: TagState, trouble: UpstreamError): Resolved {
    this.metrics.staleServed.inc({ upstream: upstream.host, kind: 'tag' });
    return {
      ...answer(state, 'stale'),
      warning: `${upstream.host} cannot be asked (${trouble.code}); this is what the mirror has`,
    };
  }
}

function answer(state: TagState, outcome: Outcome): Resolved {
  const { descriptor, confirmedAt } = state;
  const age =
    confirmedAt === undefined ? undefined : Math.max(0, Math.floor((performance.now() - confirmedAt) / 1000));
  return { descriptor, outcome, age, warning: undefined };
}
