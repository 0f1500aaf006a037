import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import { wholeBodies } from '../memory/budgets.js';
import { readBody } from './body.js';
import { isObject, parseObject } from './json.js';
import type { RequestKind } from './observer.js';
import type { Requests } from './requests.js';
import { statusError } from './status.js';
import { discard, type Reply } from './transport.js';
import { UpstreamError } from './upstream.js';

/** What one page holds: a list under a name of its own. */
interface Listing {
  readonly kind: RequestKind;
  readonly repository: Repository;
  readonly url: URL;
  readonly accept: string;
  readonly key: 'tags' | 'manifests';
}

const mostPages = 1000;
/**
 * Of all pages together, in bytes: more than 100,000 tags of 128 characters, which is as long as a tag may be. Real
 * lists are a tenth of that.
 */
export const longestListing = 16 * 1024 * 1024;
/**
 * Values in all pages together, however deep. An empty one takes the most memory and time for its text: `[]` is two
 * bytes, and 56 parsed. Commas in strings count too.
 */
const mostValues = 256 * 1024;
const withoutApi: ReadonlySet<number> = new Set([405, 501]);

/** distribution-spec, "Listing Tags". */
export async function fetchTags(
  requests: Requests,
  base: string,
  repository: Repository,
  signal: AbortSignal,
): Promise<string[]> {
  const url = new URL(`${base}/${repository}/tags/list`);
  const tags = await fetchPages(
    requests,
    { kind: 'tags', repository, url, accept: 'application/json', key: 'tags' },
    signal,
  );
  return tags.filter((tag) => typeof tag === 'string');
}

/** distribution-spec, "Listing Referrers". */
export async function fetchReferrers(
  requests: Requests,
  base: string,
  repository: Repository,
  digest: Digest,
  signal: AbortSignal,
): Promise<Record<string, unknown>[]> {
  const url = new URL(`${base}/${repository}/referrers/${digest}`);
  const accept = 'application/vnd.oci.image.index.v1+json, */*';
  const manifests = await fetchPages(
    requests,
    { kind: 'referrers', repository, url, accept, key: 'manifests' },
    signal,
  );
  return manifests.filter(isObject);
}

async function fetchPages(requests: Requests, listing: Listing, signal: AbortSignal): Promise<unknown[]> {
  const { host, transport } = requests;
  const { kind, repository, accept, key } = listing;
  const headers = { accept, 'accept-encoding': 'identity', 'user-agent': 'cistern' };
  const pages: Buffer[] = [];
  using holding = wholeBodies.open(host);
  let url = listing.url;
  let left = longestListing;
  for (let page = 0; page < mostPages; page += 1) {
    const reply = await requests.ask({ kind, method: 'GET', repository, url, headers }, signal);
    if (reply.status !== 200) throw refusal(reply, host, kind);
    const bytes = await readBody(reply, left, host, transport, signal, holding);
    left -= bytes.length;
    pages.push(bytes);
    const next = nextLink(reply.headers.link);
    // Parsed values do not outlive a wait: many lists that arrive at a time would fill the heap.
    if (next === undefined) return readPages(pages, key, host);
    // Of the link only its query counts: it can lead nowhere else.
    const query = URL.parse(next, url.href)?.search ?? '';
    if (query === url.search) throw new UpstreamError('invalid', host, `GET ${kind}: a page links to itself`);
    url = new URL(query, url);
  }
  throw new UpstreamError('invalid', host, `GET ${kind}: more than ${mostPages} pages`);
}

function refusal(reply: Reply, host: string, kind: RequestKind): UpstreamError {
  discard(reply);
  if (kind !== 'referrers' || !withoutApi.has(reply.status)) return statusError(host, reply, `GET ${kind}`);
  return new UpstreamError('not-found', host, 'has no referrers API', { status: reply.status });
}

function readPages(pages: readonly Buffer[], key: Listing['key'], host: string): unknown[] {
  if (pages.reduce((sum, page) => sum + countValues(page), 0) > mostValues) {
    throw new UpstreamError('invalid', host, `answered with a list of more than ${mostValues} values`);
  }
  return pages.flatMap((page) => readEntries(page, key, host));
}

/** At least as many as there are: each value follows a bracket, a brace or a comma, or is the first one of all. */
function countValues(text: Buffer): number {
  let count = 0;
  for (let at = 0; at < text.byteLength; at += 1) {
    const byte = text[at];
    if (byte === openBracket || byte === openBrace || byte === comma) count += 1;
  }
  return count;
}

const openBracket = '['.charCodeAt(0);
const openBrace = '{'.charCodeAt(0);
const comma = ','.charCodeAt(0);

function readEntries(bytes: Buffer, key: Listing['key'], host: string): unknown[] {
  const entries = parseObject(bytes)?.[key];
  // Registries say `"tags": null` of a repository without any.
  if (entries === null && key === 'tags') return [];
  if (!Array.isArray(entries)) throw new UpstreamError('invalid', host, `answered without a list of ${key}`);
  return entries;
}

/** The target of the link with `rel="next"` (RFC 8288). */
function nextLink(header: string | string[] | undefined): string | undefined {
  const text = Array.isArray(header) ? header.join(', ') : (header ?? '');
  for (let start = text.indexOf('<'); start !== -1;) {
    const end = text.indexOf('>', start);
    if (end === -1) return undefined;
    const following = text.indexOf('<', end);
    const parameters = text.slice(end, following === -1 ? undefined : following);
    if (/\brel\s*=\s*"?next\b/i.test(parameters)) return text.slice(start + 1, end);
    start = following;
  }
  return undefined;
}
