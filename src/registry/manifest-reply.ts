import { parseDigest, type Digest } from '../oci/digest.js';
import { parseTag, type Tag } from '../oci/name.js';
import type { Manifests } from '../proxy/manifests.js';
import type { Manifest, Resolved } from '../proxy/proxy.js';
import type { Siblings } from '../proxy/siblings.js';
import type { Tags } from '../proxy/tags.js';
import type { Route } from '../upstream/directory.js';
import type { UsageRecorder } from '../usage/usage.js';
import { RegistryError, unknownContent } from './errors.js';
import type { Exchange } from './exchange.js';
import { cacheHeaders, sendBytes, sendHead, type Headers } from './reply.js';

/** GET and HEAD of manifests, by tag and by digest. */
export class ManifestReply {
  constructor(
    private readonly manifests: Manifests,
    private readonly tags: Tags,
    private readonly usage: UsageRecorder,
    private readonly siblings: Pick<Siblings, 'follow'>,
  ) {}

  /** Answers from memory, without a promise; `false` where that cannot be done. */
  sendRemembered(exchange: Exchange, route: Route, reference: string): boolean {
    const digest = parseDigest(reference);
    const tag = digest === undefined ? parseTag(reference) : undefined;
    const resolved = tag && this.tags.recall(route.stored, tag);
    const wanted = digest ?? resolved?.descriptor.digest;
    const manifest = wanted && this.manifests.recall(route.stored, wanted);
    if (manifest === undefined) return false;
    const found = { outcome: 'hit', age: resolved?.age, warning: undefined } as const;
    this.#send(exchange, route, { descriptor: manifest, ...found }, manifest);
    const body = exchange.isHead ? undefined : manifest.bytes;
    exchange.repeatable = { body, until: resolved?.until ?? Infinity };
    return true;
  }

  async send(exchange: Exchange, route: Route, reference: string): Promise<void> {
    const digest = parseDigest(reference);
    if (digest !== undefined) return this.#sendDigest(exchange, route, digest, undefined);
    const tag = parseTag(reference);
    if (tag === undefined)
      throw new RegistryError(reference.includes(':') ? 'DIGEST_INVALID' : 'TAG_INVALID');
    return this.#sendTag(exchange, route, tag);
  }

  async #sendTag(exchange: Exchange, route: Route, tag: Tag): Promise<void> {
    const resolved = await this.tags.resolve(route, tag, exchange.signal);
    if (resolved === undefined) throw unknownContent('manifest', `unknown tag ${tag}`);
    if (exchange.isHead) this.#send(exchange, route, resolved, undefined);
    else await this.#sendDigest(exchange, route, resolved.descriptor.digest, resolved);
  }

  async #sendDigest(
    exchange: Exchange,
    route: Route,
    digest: Digest,
    tagged: Resolved | undefined,
  ): Promise<void> {
    if (exchange.isHead) {
      const resolved = await this.manifests.head(route, digest, exchange.signal);
      if (resolved === undefined) throw unknownContent('manifest', `unknown manifest ${digest}`);
      this.#send(exchange, route, resolved, undefined);
      return;
    }
    const found = await this.manifests.get(route, digest, exchange.signal);
    if (found === undefined) throw unknownContent('manifest', `unknown manifest ${digest}`);
    const { manifest, resolved } = found;
    // What a tag's answer says of the cache is whether the content came from it, unless the tag itself is stale.
    const outcome = tagged === undefined || resolved.outcome === 'miss' ? resolved.outcome : tagged.outcome;
    this.#send(exchange, route, { ...(tagged ?? resolved), outcome }, manifest);
  }

  #send(exchange: Exchange, route: Route, resolved: Resolved, manifest: Manifest | undefined): void {
    const { digest, size, mediaType } = manifest ?? resolved.descriptor;
    exchange.outcome = resolved.outcome;
    this.usage.touch(route.stored, digest);
    const headers: Headers = {
      'Docker-Content-Digest': digest,
      Etag: `"${digest}"`,
      'OCI-Namespace': route.host,
      ...cacheHeaders(resolved),
    };
    const budget = route.upstream?.budget;
    if (budget !== undefined) headers['X-Cistern-Upstream-Budget'] = `${budget.remaining}/${budget.limit}`;
    if (matches(exchange.request.headers['if-none-match'], digest)) {
      sendHead(exchange, 304, headers);
      return;
    }
    headers['Content-Type'] = mediaType;
    if (manifest === undefined) sendHead(exchange, 200, { ...headers, 'Content-Length': size });
    else sendBytes(exchange, 200, manifest.bytes, headers);
    if (manifest !== undefined && !exchange.isHead) this.siblings.follow(route, manifest);
  }
}

/** `If-None-Match` against the one validator that there is, the quoted digest (RFC 9110 §13.1.2). */
export function matches(header: string | undefined, digest: Digest): boolean {
  if (header === undefined) return false;
  return header.split(',').some((part) => {
    const tag = part.trim();
    return tag === '*' || tag === `"${digest}"` || tag === `W/"${digest}"` || tag === digest;
  });
}
