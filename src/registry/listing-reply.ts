import { parseDigest } from '../oci/digest.js';
import { ociIndex } from '../oci/manifest.js';
import type { Repository } from '../oci/name.js';
import type { ListingAnswer } from '../proxy/proxy.js';
import type { Listings } from '../proxy/listings.js';
import type { RepositoryStore } from '../storage/storage.js';
import type { Route } from '../upstream/directory.js';
import { isObject } from '../upstream/json.js';
import { RegistryError, unknownContent } from './errors.js';
import type { Exchange } from './exchange.js';
import { cacheHeaders, sendAround, sendText, type Headers } from './reply.js';

const defaultCatalogPage = 100;
const longestPage = 10_000;

/** Whether a stored repository may be shown. */
export type ListingFilter = (stored: Repository) => boolean;

/** `_catalog`, `tags/list` and `referrers`. */
export class ListingReply {
  constructor(
    private readonly listings: Listings,
    private readonly repositories: RepositoryStore,
  ) {}

  /** What is cached, as registry:2 answers it. */
  async sendCatalog(
    exchange: Exchange,
    query: URLSearchParams | undefined,
    mayList: ListingFilter | undefined,
  ): Promise<void> {
    const size = Math.min(pageSize(query) ?? defaultCatalogPage, longestPage);
    const last = query?.get('last') || undefined;
    // One more tells whether there is a next page.
    const found = await this.#listed(last, size + 1, mayList, exchange.signal);
    const repositories = found.slice(0, size);
    const headers: Headers = { 'Cache-Status': 'cistern; hit' };
    if (found.length > size && size > 0)
      headers['Link'] = nextLink(exchange, size, repositories.at(-1), query);
    sendText(exchange, 200, `${JSON.stringify({ repositories })}\n`, headers);
  }

  async #listed(
    after: string | undefined,
    wanted: number,
    mayList: ListingFilter | undefined,
    signal: AbortSignal,
  ): Promise<Repository[]> {
    const listed: Repository[] = [];
    const enough = mayList === undefined ? wanted : Math.max(wanted, defaultCatalogPage);
    for await (const page of this.repositories.listRepositories(after, enough, signal)) {
      listed.push(...(mayList === undefined ? page : page.filter(mayList)));
      if (listed.length >= wanted) break;
    }
    return listed.slice(0, wanted);
  }

  async sendTags(
    exchange: Exchange,
    route: Route,
    name: string,
    query: URLSearchParams | undefined,
  ): Promise<void> {
    const size = pageSize(query);
    const answer = await this.listings.tagsOf(route, exchange.signal);
    const { list } = answer;
    if (list.length === 0 && route.upstream === undefined) throw unknownContent('tags');
    exchange.outcome = answer.outcome;
    const last = query?.get('last') ?? '';
    const start = last === '' ? 0 : list.placeAfter(last);
    const end = Math.min(start + (size ?? Infinity), list.length);
    const headers = headersOf(route, answer, 'application/json; charset=utf-8');
    if (end > start && end < list.length) {
      headers['Link'] = nextLink(exchange, end - start, String(list.at(end - 1)), query);
    }
    const before = `{"name":${JSON.stringify(name)},"tags":[`;
    sendAround(exchange, [before, list.textOf(start, end), ']}\n'], headers);
  }

  async sendReferrers(
    exchange: Exchange,
    route: Route,
    reference: string,
    query: URLSearchParams | undefined,
  ): Promise<void> {
    const digest = parseDigest(reference);
    if (digest === undefined) throw new RegistryError('DIGEST_INVALID');
    const answer = await this.listings.referrersOf(route, digest, exchange.signal);
    // An empty index would say that there are none; 404 makes clients look at the fallback tag themselves.
    if (answer === undefined) throw unknownContent('referrers');
    exchange.outcome = answer.outcome;
    const artifactType = query?.get('artifactType') || undefined;
    const { list } = answer;
    const hasType = (entry: unknown): boolean => isObject(entry) && entry['artifactType'] === artifactType;
    const manifests = artifactType === undefined ? list.textOf() : list.textWhere(hasType);
    const headers = headersOf(route, answer, ociIndex);
    if (artifactType !== undefined) headers['OCI-Filters-Applied'] = 'artifactType';
    const before = `{"schemaVersion":2,"mediaType":"${ociIndex}","manifests":[`;
    sendAround(exchange, [before, manifests, ']}'], headers);
  }
}

function headersOf(route: Route, answer: ListingAnswer, contentType: string): Headers {
  return {
    'Content-Type': contentType,
    'OCI-Namespace': route.host,
    ...cacheHeaders({ ...answer, age: undefined }),
  };
}

function pageSize(query: URLSearchParams | undefined): number | undefined {
  const text = query?.get('n');
  if (text === null || text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new RegistryError('PAGINATION_NUMBER_INVALID', { n: text.slice(0, 32) });
  return Number(text);
}

function nextLink(
  exchange: Exchange,
  size: number,
  last: string | undefined,
  query: URLSearchParams | undefined,
): string {
  const [path] = (exchange.request.url ?? '').split('?', 1);
  const next = new URLSearchParams({ last: last ?? '', n: String(size) });
  const ns = query?.get('ns');
  if (ns) next.set('ns', ns);
  return `<${path}?${next.toString()}>; rel="next"`;
}
