import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Digest } from '../../src/oci/digest.js';
import { type Content, contentsOf, descriptorOf, type Image, type ImageIndex } from '../parts/image.js';
import type { TokenServer } from '../parts/token-server.js';
import { type Fault, FaultPlan, type Match, matches, type RuleMatch } from './fault.js';
import { type Answer, reply } from './faulty-reply.js';
import { LoopbackServer } from './loopback-server.js';
import type { PullLimit } from './pull-limit.js';
import { Throttle } from './throttle.js';

export interface FakeUpstreamOptions {
  /** Of all answers together. */
  readonly bytesPerSecond?: number;
  /** On each answer under /v2/, such as Docker Hub's `ratelimit-limit`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Counts manifests and refuses them when there are too many. */
  readonly pullLimit?: PullLimit;
  /** Whether it has the referrers API. Default: yes. */
  readonly referrers?: boolean;
  /** Lists (tags, referrers) come in pages of so many. */
  readonly pageSize?: number;
  /** Asks for a bearer token of this server. */
  readonly tokens?: TokenServer;
  /** Asks for basic authentication; user names and passwords. */
  readonly users?: Readonly<Record<string, string>>;
}

export interface RecordedRequest {
  readonly method: string;
  /** With its query. */
  readonly url: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  status: number | undefined;
  /** Sent so far. */
  bodyBytes: number;
  state: 'open' | 'complete' | 'cut';
}

interface FakeRepository {
  readonly blobs: Map<string, Content>;
  readonly manifests: Map<string, Content>;
  readonly tags: Map<string, Digest>;
}

/** A registry in this process that goes wrong exactly as it is told to, and remembers all that it was asked. */
export class FakeUpstream implements AsyncDisposable {
  readonly requests: RecordedRequest[] = [];

  readonly #options: FakeUpstreamOptions;
  readonly #throttle: Throttle;
  readonly #plan = new FaultPlan();
  readonly #repositories = new Map<string, FakeRepository>();
  readonly #files = new Map<string, Buffer>();
  readonly #server = new LoopbackServer(() => this.#newServer());
  #changed = Promise.withResolvers<void>();

  private constructor(options: FakeUpstreamOptions) {
    this.#options = options;
    this.#throttle = new Throttle(options.bytesPerSecond);
  }

  static async start(options: FakeUpstreamOptions = {}): Promise<FakeUpstream> {
    const upstream = new FakeUpstream(options);
    await upstream.up();
    return upstream;
  }

  get url(): string {
    return `http://${this.host}`;
  }

  get host(): string {
    return this.#server.host;
  }

  // Content

  addBlob(repository: string, blob: Content): void {
    this.#repository(repository).blobs.set(blob.digest, blob);
  }

  /** Under its digest and, where given, a tag. */
  addManifest(repository: string, manifest: Content, tag?: string): void {
    const { manifests, tags } = this.#repository(repository);
    manifests.set(manifest.digest, manifest);
    if (tag !== undefined) tags.set(tag, manifest.digest);
  }

  addImage(repository: string, tag: string, item: Image | ImageIndex): void {
    const { blobs, manifests } = contentsOf(item);
    for (const blob of blobs) this.addBlob(repository, blob);
    for (const manifest of manifests) this.addManifest(repository, manifest);
    this.addManifest(repository, item.manifest, tag);
  }

  /** At any path, without authentication: what redirects lead to. */
  addFile(path: string, bytes: Buffer): void {
    this.#files.set(path, bytes);
  }

  removeRepository(repository: string): void {
    this.#repositories.delete(repository);
  }

  // Faults

  fault(match: RuleMatch, fault: Fault): void {
    this.#plan.add(match, fault);
  }

  clearFaults(): void {
    this.#plan.clear();
  }

  /** Resets all connections, and refuses new ones until `up`. */
  down(): Promise<void> {
    return this.#server.down();
  }

  /** Listens, on the same port as before. */
  up(): Promise<void> {
    return this.#server.up();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  // What it was asked

  asked(match: Match = {}): RecordedRequest[] {
    return this.requests.filter((request) => matches(match, request));
  }

  /** Body bytes sent to matching requests so far. */
  bytesSent(match: Match = {}): number {
    return this.asked(match).reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
  }

  /** Until the check holds; it is made again at each request, sent piece and end of an answer. */
  async until(check: () => boolean): Promise<void> {
    while (!check()) await this.#changed.promise;
  }

  #tellChange(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  #newServer() {
    return createServer(
      { keepAliveTimeout: 60_000 },
      (request, response) => void this.#serve(request, response),
    );
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url);
    const record: RecordedRequest = {
      method: request.method ?? '',
      url: request.url ?? '',
      path: url.pathname,
      headers: request.headers,
      status: undefined,
      bodyBytes: 0,
      state: 'open',
    };
    this.requests.push(record);
    this.#tellChange();
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    response.on('error', () => gone.abort());
    const fault = this.#plan.take(record);
    record.state = await reply(request, response, this.#answer(request, url), fault, {
      throttle: this.#throttle,
      gone: gone.signal,
      onStatus: (status) => (record.status = status),
      onBytes: (bytes) => {
        record.bodyBytes += bytes;
        this.#tellChange();
      },
    });
    this.#tellChange();
  }

  #answer(request: IncomingMessage, url: URL): Answer {
    const file = this.#files.get(url.pathname);
    if (file !== undefined) return { status: 200, headers: {}, body: file, ranged: true };
    const route = /^\/v2\/(?:(.+)\/(manifests|blobs|tags|referrers)\/([^/]+))?$/.exec(url.pathname);
    if (route === null) return notFound('NAME_UNKNOWN');
    const [, repository, kind, reference = ''] = route;
    const refusal = this.#refusal(request.headers.authorization, repository);
    const found = refusal ?? this.#content(repository, kind, reference, url);
    const { pullLimit } = this.#options;
    const counted = kind === 'manifests' && refusal === undefined;
    const answer = counted ? (pullLimit?.apply(request.method, request.headers, found) ?? found) : found;
    return { ...answer, headers: { ...answer.headers, ...this.#options.headers } };
  }

  #content(repository: string | undefined, kind: string | undefined, reference: string, url: URL): Answer {
    if (repository === undefined) return json({});
    const found = this.#repositories.get(repository);
    if (found === undefined) return notFound('NAME_UNKNOWN');
    switch (kind) {
      case 'blobs': {
        const blob = found.blobs.get(reference);
        if (blob === undefined) return notFound('BLOB_UNKNOWN');
        return { ...contentAnswer(blob, 'application/octet-stream'), ranged: true };
      }
      case 'manifests': {
        const manifest = found.manifests.get(found.tags.get(reference) ?? reference);
        return manifest === undefined
          ? notFound('MANIFEST_UNKNOWN')
          : contentAnswer(manifest, manifest.mediaType);
      }
      case 'tags':
        return this.#page(url, [...found.tags.keys()].toSorted(), (tags) => ({ name: repository, tags }));
      default:
        return this.#options.referrers === false
          ? {
              status: 404,
              headers: { 'content-type': 'text/plain' },
              body: Buffer.from('404 page not found\n'),
            }
          : this.#page(url, referrersOf(found, reference), referrersIndex);
    }
  }

  #refusal(authorization: string | undefined, repository: string | undefined): Answer | undefined {
    const { users, tokens } = this.#options;
    if (tokens !== undefined) {
      const challenge = tokens.challenge(authorization, repository);
      return challenge === undefined ? undefined : unauthorized(challenge);
    }
    if (users === undefined) return undefined;
    const known = Object.entries(users).map(
      (pair) => `Basic ${Buffer.from(pair.join(':')).toString('base64')}`,
    );
    return known.includes(authorization ?? '') ? undefined : unauthorized('Basic realm="fake"');
  }

  /** The distribution-spec's pages: `n` and `last`, the next one in `Link`. `last` is opaque: here, a position. */
  #page<Item>(url: URL, items: readonly Item[], wrap: (items: readonly Item[]) => unknown): Answer {
    const size = Math.min(
      Number(url.searchParams.get('n') ?? Infinity),
      this.#options.pageSize ?? Infinity,
      items.length,
    );
    const start = Number(url.searchParams.get('last') ?? 0);
    const answer = json(wrap(items.slice(start, start + size)));
    if (start + size >= items.length) return answer;
    const link = `<${url.pathname}?n=${size}&last=${start + size}>; rel="next"`;
    return { ...answer, headers: { ...answer.headers, link } };
  }

  #repository(name: string): FakeRepository {
    const existing = this.#repositories.get(name);
    if (existing !== undefined) return existing;
    const made: FakeRepository = { blobs: new Map(), manifests: new Map(), tags: new Map() };
    this.#repositories.set(name, made);
    return made;
  }
}

function contentAnswer(content: Content, mediaType: string): Answer {
  return {
    status: 200,
    headers: {
      'content-type': mediaType,
      'docker-content-digest': content.digest,
      etag: `"${content.digest}"`,
      'docker-distribution-api-version': 'registry/2.0',
    },
    body: content.bytes,
  };
}

function json(value: unknown, status = 200): Answer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify(value)),
  };
}

function notFound(code: string): Answer {
  return json({ errors: [{ code, message: 'not here' }] }, 404);
}

function unauthorized(challenge: string): Answer {
  const answer = json({ errors: [{ code: 'UNAUTHORIZED', message: 'authentication required' }] }, 401);
  return { ...answer, headers: { ...answer.headers, 'www-authenticate': challenge } };
}

interface ReferringManifest {
  readonly subject?: { readonly digest: string };
  readonly artifactType?: string;
  readonly config?: { readonly mediaType: string };
  readonly annotations?: unknown;
}

function referrersOf({ manifests }: FakeRepository, subject: string): unknown[] {
  return [...manifests.values()].flatMap((manifest) => {
    const parsed = JSON.parse(manifest.bytes.toString()) as ReferringManifest;
    if (parsed.subject?.digest !== subject) return [];
    const artifactType = parsed.artifactType ?? parsed.config?.mediaType;
    return [{ ...descriptorOf(manifest), artifactType, annotations: parsed.annotations }];
  });
}

function referrersIndex(manifests: readonly unknown[]): unknown {
  return { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests };
}
