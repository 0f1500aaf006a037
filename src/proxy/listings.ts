import { Lifetime } from '../async/lifetime.js';
import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { storeSource, wholeBodies } from '../memory/budgets.js';
import type { Digest } from '../oci/digest.js';
import { EntryList } from '../oci/entry-list.js';
import { inspectManifest, ociIndex } from '../oci/manifest.js';
import { parseTag } from '../oci/name.js';
import type { RecordStore, RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { isObject } from '../upstream/json.js';
import { longestListing } from '../upstream/listings.js';
import { troubleOf, UpstreamError, type Upstream } from '../upstream/upstream.js';
import type { Manifests } from './manifests.js';
import type { ListingAnswer } from './proxy.js';
import type { StoreTrouble } from './store-trouble.js';
import type { Tags } from './tags.js';
import { Deadline } from './deadline.js';

const listMs = 9_000;

/** Of all copies together. */
const mostBytes = 32 * 1024 * 1024;
const entryOverhead = 1024;
/** Beside the entries a record has its name. */
const longestRecord = longestListing + 64 * 1024;

interface Copy {
  readonly list: EntryList;
  readonly freshness: Lifetime;
}

/**
 * The upstream's lists: tags and referrers. A whole list is fetched at once and kept for the freshness time; a copy
 * in the store answers while the upstream is in trouble.
 */
export class Listings {
  readonly #copies = new LRUCache<string, Copy>({
    maxSize: mostBytes,
    sizeCalculation: ({ list }, name) => list.bytes + name.length + entryOverhead,
  });
  readonly #asking = new SingleFlight<ListingAnswer>();

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
  async tagsOf(route: Route, signal: AbortSignal): Promise<ListingAnswer> {
    const cached = (): Promise<EntryList> =>
      this.repositories.listTags(route.stored).then((tags) => EntryList.of(tags.sort()));
    const { upstream } = route;
    if (upstream === undefined) return { list: await cached(), outcome: 'hit', warning: undefined };
    return this.#list(upstream, `tags/${route.stored}`, signal, {
      fetch: async (deadline) => (await upstream.listTags(route.name, deadline)).sort(),
      instead: cached,
    });
  }

  /**
   * Referrers of a digest, unfiltered. Where the upstream has no such API, the index under the fallback tag
   * (distribution-spec, "Unavailable Referrers API"); `undefined` where it has neither: clients then look themselves.
   */
  async referrersOf(route: Route, subject: Digest, signal: AbortSignal): Promise<ListingAnswer | undefined> {
    const { upstream } = route;
    if (upstream === undefined) return this.#fallbackTag(route, subject, signal);
    try {
      return await this.#list(upstream, `referrers/${route.stored}@${subject}`, signal, {
        fetch: async (deadline) => (await upstream.listReferrers(route.name, subject, deadline)).manifests,
        instead: async () => (await this.#fallbackTag(route, subject, signal))?.list,
      });
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
      instead: () => Promise<EntryList | undefined>;
    },
  ): Promise<ListingAnswer> {
    const copy = this.#copies.get(name);
    if (copy?.freshness.isOver === false) {
      return { list: copy.list, outcome: 'hit', warning: undefined };
    }
    const asked = this.#asking.join(name, async () => {
      using deadline = new Deadline(listMs, upstream.host, 'a listing');
      try {
        const list = listOf(await source.fetch(deadline.signal), upstream.host);
        this.#copies.set(name, { list, freshness: new Lifetime(this.freshnessMs) });
        await this.trouble.awaitWrite(this.#keep(name, list));
        return { list, outcome: 'miss' as const, warning: undefined };
      } catch (error) {
        const trouble = troubleOf(error, upstream.host);
        if (trouble === undefined) throw error;
        const list = copy?.list ?? (await this.#kept(name)) ?? (await this.trouble.survive(source.instead));
        if (list === undefined || list.length === 0) throw trouble;
        this.metrics.staleServed.inc({ upstream: upstream.host, kind: 'listing' });
        const warning = `${upstream.host} cannot be asked (${trouble.code}); this is what the mirror has`;
        return { list, outcome: 'stale' as const, warning };
      }
    });
    return waitFor(asked, signal);
  }

  /** For times when the upstream is in trouble. A list for whose copy there is no room now is kept another time. */
  async #keep(name: string, list: EntryList): Promise<void> {
    using holding = wholeBodies.open(storeSource);
    if (!holding.tryGrow(list.bytes)) return;
    const record = Buffer.concat([
      Buffer.from(`{"name":${JSON.stringify(name)},"items":[`),
      list.textOf(),
      Buffer.from(']}'),
    ]);
    await this.trouble.survive(() => this.records.writeRecord(recordKey(name), record));
  }

  async #kept(name: string): Promise<EntryList | undefined> {
    using holding = wholeBodies.open(storeSource);
    const bytes = await this.trouble.survive(() =>
      this.records.readRecord(recordKey(name), longestRecord, (size) => holding.grow(size)),
    );
    if (bytes === undefined) return undefined;
    try {
      const record = JSON.parse(bytes.toString('utf8')) as { name?: unknown; items?: unknown };
      return record.name === name && Array.isArray(record.items) ? EntryList.of(record.items) : undefined;
    } catch (err) {
      this.log.warn({ err, listing: name }, 'a kept listing cannot be read');
      return undefined;
    }
  }

  async #fallbackTag(route: Route, subject: Digest, signal: AbortSignal): Promise<ListingAnswer | undefined> {
    const tag = fallbackTag(subject);
    if (tag === undefined) return undefined;
    try {
      const resolved = await this.tags.resolve(route, tag, signal);
      if (resolved === undefined) return undefined;
      const found = await this.manifests.get(route, resolved.descriptor.digest, signal);
      if (found === undefined || inspectManifest(found.manifest.bytes)?.mediaType !== ociIndex)
        return undefined;
      const { manifests } = JSON.parse(found.manifest.bytes.toString('utf8')) as { manifests?: unknown };
      const list = listOf(Array.isArray(manifests) ? manifests.filter(isObject) : [], route.host);
      return { list, outcome: resolved.outcome, warning: resolved.warning };
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'answer') return undefined;
      throw error;
    }
  }
}

/** @throws UpstreamError `invalid`, where an entry is nested more deeply than it can be written. */
function listOf(entries: readonly unknown[], host: string): EntryList {
  try {
    return EntryList.of(entries);
  } catch (cause) {
    throw new UpstreamError('invalid', host, 'answered with a list that is nested too deeply', { cause });
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
