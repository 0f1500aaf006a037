import { Lifetime } from '../async/lifetime.js';
import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.js';
import { inspectManifest, ociIndex } from '../oci/manifest.js';
import { parseTag } from '../oci/name.js';
import type { RecordStore, RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { isTrouble, UpstreamError, type Upstream } from '../upstream/upstream.js';
import type { Manifests } from './manifests.js';
import type { ListingAnswer } from './proxy.js';
import type { StoreTrouble } from './store-trouble.js';
import type { Tags } from './tags.js';
import { Deadline } from './deadline.js';

const listMs = 9_000;

/** A descriptor as an image index holds it. */
export type ReferrerEntry = Readonly<Record<string, unknown>>;

interface Copy {
  readonly items: readonly unknown[];
  readonly freshness: Lifetime;
}

/**
 * The upstream's lists: tags and referrers. A whole list is fetched at once and kept for the freshness time; a copy
 * in the store answers while the upstream is in trouble.
 */
export class Listings {
  readonly #copies = new LRUCache<string, Copy>({
    maxSize: 2_000_000,
    sizeCalculation: (copy) => copy.items.length + 1,
  });
  readonly #asking = new SingleFlight<ListingAnswer<unknown>>();

  constructor(
    private readonly repositories: RepositoryStore,
    private readonly records: RecordStore,
    private readonly manifests: Manifests,
    private readonly tags: Tags,
    private readonly freshnessMs: number,
    private readonly trouble: StoreTrouble,
    private readonly log: Logger,
    private readonly metrics: Metrics,
  ) {}

  /** All tags, sorted. Without upstream, or in trouble without a copy: those that are cached. */
  async tagsOf(route: Route, signal: AbortSignal): Promise<ListingAnswer<string>> {
    const cached = (): Promise<string[]> => this.repositories.listTags(route.stored);
    const { upstream } = route;
    if (upstream === undefined) return { items: await cached(), outcome: 'hit', warning: undefined };
    const answer = await this.#list(upstream, `tags/${route.stored}`, signal, {
      fetch: async (deadline) => (await upstream.listTags(route.name, deadline)).sort(),
      instead: cached,
    });
    return answer as ListingAnswer<string>;
  }

  /**
   * Referrers of a digest, unfiltered. Where the upstream has no such API, the index under the fallback tag
   * (distribution-spec, "Unavailable Referrers API"); `undefined` where it has neither: clients then look themselves.
   */
  async referrersOf(
    route: Route,
    subject: Digest,
    signal: AbortSignal,
  ): Promise<ListingAnswer<ReferrerEntry> | undefined> {
    const { upstream } = route;
    if (upstream === undefined) return this.#fallbackTag(route, subject, signal);
    try {
      const answer = await this.#list(upstream, `referrers/${route.stored}@${subject}`, signal, {
        fetch: async (deadline) => (await upstream.listReferrers(route.name, subject, deadline)).manifests,
        instead: async () => (await this.#fallbackTag(route, subject, signal))?.items,
      });
      return answer as ListingAnswer<ReferrerEntry>;
    } catch (error) {
      if (error instanceof UpstreamError && error.code === 'not-found') {
        return this.#fallbackTag(route, subject, signal);
      }
      throw error;
    }
  }

  async #list(
    upstream: Upstream,
    name: string,
    signal: AbortSignal,
    source: {
      fetch: (deadline: AbortSignal) => Promise<readonly unknown[]>;
      instead: () => Promise<readonly unknown[] | undefined>;
    },
  ): Promise<ListingAnswer<unknown>> {
    const copy = this.#copies.get(name);
    if (copy?.freshness.isOver === false) {
      return { items: copy.items, outcome: 'hit', warning: undefined };
    }
    const asked = this.#asking.join(name, async () => {
      using deadline = new Deadline(listMs, upstream.host, 'a listing');
      try {
        const items = await source.fetch(deadline.signal);
        this.#copies.set(name, { items, freshness: new Lifetime(this.freshnessMs) });
        const record = Buffer.from(JSON.stringify({ name, items }));
        await this.trouble.survive(() => this.records.writeRecord(recordKey(name), record));
        return { items, outcome: 'miss' as const, warning: undefined };
      } catch (error) {
        if (!isTrouble(error)) throw error;
        const items = copy?.items ?? (await this.#kept(name)) ?? (await this.trouble.survive(source.instead));
        if (items === undefined || items.length === 0) throw error;
        this.metrics.staleServed.inc({ upstream: upstream.host, kind: 'listing' });
        const warning = `${upstream.host} cannot be asked (${error.code}); this is what the mirror has`;
        return { items, outcome: 'stale' as const, warning };
      }
    });
    return waitFor(asked, signal);
  }

  async #kept(name: string): Promise<readonly unknown[] | undefined> {
    const bytes = await this.trouble.survive(() => this.records.readRecord(recordKey(name)));
    if (bytes === undefined) return undefined;
    try {
      const record = JSON.parse(bytes.toString('utf8')) as { name?: unknown; items?: unknown };
      return record.name === name && Array.isArray(record.items) ? record.items : undefined;
    } catch (err) {
      this.log.warn({ err, listing: name }, 'a kept listing cannot be read');
      return undefined;
    }
  }

  async #fallbackTag(
    route: Route,
    subject: Digest,
    signal: AbortSignal,
  ): Promise<ListingAnswer<ReferrerEntry> | undefined> {
    const tag = fallbackTag(subject);
    if (tag === undefined) return undefined;
    try {
      const resolved = await this.tags.resolve(route, tag, signal);
      if (resolved === undefined) return undefined;
      const found = await this.manifests.get(route, resolved.descriptor.digest, signal);
      if (found === undefined || inspectManifest(found.manifest.bytes)?.mediaType !== ociIndex)
        return undefined;
      const { manifests } = JSON.parse(found.manifest.bytes.toString('utf8')) as { manifests?: unknown };
      const items = Array.isArray(manifests) ? (manifests as ReferrerEntry[]) : [];
      return { items, outcome: resolved.outcome, warning: resolved.warning };
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'answer') return undefined;
      throw error;
    }
  }
}

/** `<algorithm>-<hex>`, the algorithm cut to 32 and the hex to 64 characters (distribution-spec, "Referrers Tag Schema"). */
export function fallbackTag(digest: Digest): ReturnType<typeof parseTag> {
  const [algorithm = '', hex = ''] = digest.split(':');
  return parseTag(`${algorithm.slice(0, 32)}-${hex.slice(0, 64)}`);
}

/** Names of repositories may be longer than a file's name may be. */
function recordKey(name: string): string {
  return `listings/${createHash('sha256').update(name).digest('hex')}.json`;
}
