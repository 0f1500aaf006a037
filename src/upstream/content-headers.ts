import { algorithmOf, digestOf, parseDigest, type Digest } from '../oci/digest.js';
import { contentLength } from './body.js';
import type { Reply } from './transport.js';
import { UpstreamError } from './upstream.js';

const webPages: ReadonlySet<string> = new Set(['text/html', 'application/xhtml+xml']);

/** The size of the content; `undefined` if the answer is encoded: its length is not that of the content. */
export function sizeOf(reply: Reply): number | undefined {
  const encoding = reply.headers['content-encoding'];
  return encoding === undefined || encoding === 'identity' ? contentLength(reply) : undefined;
}

/** The digest that the answer names; `undefined` if there is none, or if it is malformed. */
export function digestHeader(reply: Reply): Digest | undefined {
  const header = reply.headers['docker-content-digest'];
  return typeof header === 'string' ? parseDigest(header) : undefined;
}

export function mediaTypeOf(reply: Reply): string | undefined {
  const type = reply.headers['content-type']?.split(';', 1)[0]?.trim();
  return type === undefined || type === '' ? undefined : type;
}

/** Login pages and captive portals answer 200 to every request, with a page. */
export function isWebPage(reply: Reply): boolean {
  return webPages.has(mediaTypeOf(reply)?.toLowerCase() ?? '');
}

/** Whether the answer names this digest; `undefined` if it names none, or one of another algorithm. */
export function namesDigest(reply: Reply, digest: Digest): boolean | undefined {
  const told = digestHeader(reply);
  return told === undefined || algorithmOf(told) !== algorithmOf(digest) ? undefined : told === digest;
}

/**
 * Rejects an answer that names another digest, and a web page that does not name this digest.
 * @throws UpstreamError `invalid`
 */
export function checkBlobAnswer(reply: Reply, digest: Digest, host: string): void {
  const named = namesDigest(reply, digest);
  if (named === true || (named === undefined && !isWebPage(reply))) return;
  reply.body.destroy();
  const reason =
    named === undefined ? 'answered with a web page instead of a blob' : 'answered with another digest';
  throw new UpstreamError('invalid', host, reason, { status: reply.status });
}

/** Whether this is the digest of empty content. */
export function isOfNothing(digest: Digest): boolean {
  return digestOf(Buffer.alloc(0), algorithmOf(digest)) === digest;
}
