import type { Descriptor } from '../oci/descriptor.js';
import { algorithmOf, digestOf, parseDigest, type Digest } from '../oci/digest.js';
import { inspectManifest } from '../oci/manifest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { ByteRange } from '../oci/range.js';
import { manifestTypes } from './accept.js';
import { askBlobSize, withoutHead } from './blob-size.js';
import { BlobBody, checkIdentity, contentLength, readBody } from './body.js';
import { CallerCheck } from './caller.js';
import { checkBlobAnswer, digestHeader, isWebPage, mediaTypeOf, sizeOf } from './content-headers.js';
import { readContentRange } from './content-range.js';
import type { Credentials, Login } from './credentials.js';
import { fetchReferrers, fetchTags } from './listings.js';
import type { FileLog } from '../config/watched-file.js';
import type { BreakerState, UpstreamLog, UpstreamObserver } from './observer.js';
import { ParallelRanges, type PartSlots, type RangesConfig } from './parallel-ranges.js';
import type { ProxySettings } from './proxy.js';
import type { BlobRequests, OpenedBlob } from './ranged-body.js';
import type { BudgetLedger } from './rate-budget.js';
import { Requests, type Identity } from './requests.js';
import { statusError } from './status.js';
import { discard, Transport, type Method, type Reply, type Timeouts } from './transport.js';
import {
  longestManifest,
  UpstreamError,
  type FetchedBlob,
  type FetchedManifest,
  type Budget,
  type Referrers,
  type Upstream,
} from './upstream.js';

export interface UpstreamOptions {
  /** The look-up key: `docker.io`, `ghcr.io`. */
  readonly host: string;
  /** Where it is: `https://registry-1.docker.io`. */
  readonly url: string;
  /** Who we are there; further ones are used while those before are refused, or their pull limit is used up. None: anonymous. */
  readonly credentials?: readonly Credentials[] | undefined;
  /** Hosts of token servers outside the upstream's own domain that may be asked. */
  readonly realms: readonly string[];
  /** Hosts that its redirects may lead to, wherever they are. */
  readonly redirects?: readonly string[] | undefined;
  /** Whether it is asked, with their own credentials, who may read there. */
  readonly verifycaller?: boolean | undefined;
  /** When its blobs come in parts over several connections, and the room for these; never without it. */
  readonly ranges?: (RangesConfig & { readonly slots: PartSlots }) | undefined;
  /** A PEM file of authorities that are trusted beside the system's. */
  readonly ca?: string | undefined;
  readonly proxy?: ProxySettings | undefined;
  /** Defaults: 5 s, 10 s, 15 s; a token within 10 s; whether a caller may read within 8 s. */
  readonly timeouts?: Partial<Timeouts & { readonly tokenMs: number; readonly callerMs: number }> | undefined;
  readonly log: UpstreamLog & FileLog;
  readonly observer: UpstreamObserver;
  /** Milliseconds of a clock that never goes back, for the breaker and the tokens; this process's by default. */
  readonly now?: (() => number) | undefined;
}

/** An upstream with what the status page and the shutdown need beside the contract. */
export interface RegistryUpstream extends Upstream {
  /** `undefined`: whoever is let in here may read what there is of it. */
  readonly callers: CallerCheck | undefined;
  /** Counts what is left of its pull limit together with the other replicas. */
  keepBudgetIn(ledger: BudgetLedger): void;
  breakerState(): BreakerState;
  /** Ends what is running. */
  close(): Promise<void>;
}

/** @throws where the URL, a proxy's address or the PEM file cannot be read. */
export function createUpstream(options: UpstreamOptions): RegistryUpstream {
  return new RegistryClient(options);
}

const identity = { 'accept-encoding': 'identity', 'user-agent': 'cistern' };
const manifestHeaders = { ...identity, accept: manifestTypes };
const blobHeaders = { ...identity, accept: '*/*' };

class RegistryClient implements RegistryUpstream {
  readonly host: string;
  readonly callers: CallerCheck | undefined;
  readonly #base: string;
  readonly #transport: Transport;
  readonly #requests: Requests;
  readonly #ranges: ParallelRanges | undefined;

  constructor(options: UpstreamOptions) {
    const { host, realms, redirects = [], ca, proxy, log, observer } = options;
    const url = new URL(options.url);
    const {
      connectMs = 5000,
      headersMs = 10_000,
      bodyIdleMs = 15_000,
      tokenMs = 10_000,
      callerMs = 8_000,
    } = options.timeouts ?? {};
    this.host = host;
    this.#base = `${url.origin}${url.pathname.replace(/\/$/, '')}/v2`;
    this.#transport = new Transport({
      host,
      url,
      listed: [...realms, ...redirects],
      ca,
      log,
      proxy,
      timeouts: { connectMs, headersMs, bodyIdleMs },
    });
    const rule = { host, url, realms };
    const now = options.now ?? (() => performance.now());
    const transport = this.#transport;
    this.#requests = new Requests({
      rule,
      transport,
      identities: identitiesOf(options),
      tokenMs,
      now,
      observer,
      log,
    });
    const { ranges } = options;
    this.#ranges =
      ranges && ranges.connections > 1
        ? new ParallelRanges({ ...ranges, host, now, log, observer })
        : undefined;
    if (options.verifycaller === true) {
      const guarded = this.#requests.guarded.bind(this.#requests);
      const shared = { rule, base: this.#base, transport, guarded, now, observer };
      this.callers = new CallerCheck({ ...shared, answerMs: callerMs });
    }
  }

  headManifest(repository: Repository, reference: Tag | Digest, signal: AbortSignal): Promise<Descriptor> {
    return this.#requests.guarded(repository, signal, async () => {
      const reply = await this.#askManifest('HEAD', repository, reference, signal);
      discard(reply);
      if (reply.status === 200) {
        const told = this.#readDescriptor(reply, reference);
        if (told !== undefined) return told;
      } else if (!withoutHead.has(reply.status)) {
        throw statusError(this.host, reply, 'HEAD manifest');
      }
      const { bytes, mediaType } = await this.#getManifest(repository, reference, signal);
      const digest = digestOf(bytes, algorithmOf(parseDigest(reference) ?? digestOf(bytes)));
      this.#checkDigest(parseDigest(reference) ?? digest, digest);
      if (inspectManifest(bytes) === undefined) throw this.#noManifest();
      return { digest, size: bytes.length, mediaType };
    });
  }

  fetchManifest(
    repository: Repository,
    reference: Tag | Digest,
    signal: AbortSignal,
  ): Promise<FetchedManifest> {
    return this.#requests.guarded(repository, signal, () => this.#getManifest(repository, reference, signal));
  }

  headBlob(repository: Repository, digest: Digest, signal: AbortSignal): Promise<number | undefined> {
    return this.#requests.guarded(repository, signal, () =>
      askBlobSize(this.host, digest, (method, range) =>
        this.#askBlob(method, repository, digest, range, signal),
      ),
    );
  }

  fetchBlob(
    repository: Repository,
    digest: Digest,
    offset: number,
    signal: AbortSignal,
  ): Promise<FetchedBlob> {
    const requests: BlobRequests = {
      open: (start, end, until) => this.#openBlob(repository, digest, start, end, until),
      range: (range, until) => this.fetchRange(repository, digest, range, until),
    };
    return this.#ranges?.fetch(digest, offset, requests, signal) ?? requests.open(offset, undefined, signal);
  }

  fetchRange(
    repository: Repository,
    digest: Digest,
    range: ByteRange,
    signal: AbortSignal,
  ): Promise<FetchedBlob> {
    return this.#requests.guarded(repository, signal, async () => {
      const header = `bytes=${range.start}-${range.end}`;
      const reply = await this.#askBlob('GET', repository, digest, header, signal);
      if (reply.status === 200) throw this.#wrongRange(reply, 'answered 200 to GET blob with a range');
      if (reply.status !== 206) throw this.#refusal(reply, 'GET blob with a range');
      checkBlobAnswer(reply, digest, this.host);
      checkIdentity(reply, this.host);
      const given = readContentRange(reply.headers['content-range']);
      if (given?.start !== range.start || given.end !== range.end) {
        throw this.#wrongRange(reply, 'answered GET blob with another range than asked for');
      }
      const length = range.end - range.start + 1;
      return { size: given.total, body: this.#body(reply, 0, length, signal) };
    });
  }

  listTags(repository: Repository, signal: AbortSignal): Promise<string[]> {
    return this.#requests.guarded(repository, signal, () =>
      fetchTags(this.#requests, this.#base, repository, signal),
    );
  }

  listReferrers(repository: Repository, digest: Digest, signal: AbortSignal): Promise<Referrers> {
    return this.#requests.guarded(repository, signal, async () => ({
      manifests: await fetchReferrers(this.#requests, this.#base, repository, digest, signal),
    }));
  }

  get budget(): Budget | undefined {
    return this.#requests.budget;
  }

  keepBudgetIn(ledger: BudgetLedger): void {
    this.#requests.keepBudgetIn(ledger);
  }

  breakerState(): BreakerState {
    return this.#requests.breakerState;
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  #askManifest(
    method: Method,
    repository: Repository,
    reference: Tag | Digest,
    signal: AbortSignal,
  ): Promise<Reply> {
    const url = new URL(`${this.#base}/${repository}/manifests/${reference}`);
    return this.#requests.ask(
      { kind: 'manifest', method, repository, url, headers: manifestHeaders },
      signal,
    );
  }

  #askBlob(
    method: Method,
    repository: Repository,
    digest: Digest,
    range: string | undefined,
    signal: AbortSignal,
  ): Promise<Reply> {
    const url = new URL(`${this.#base}/${repository}/blobs/${digest}`);
    const headers = range === undefined ? blobHeaders : { ...blobHeaders, range };
    return this.#requests.ask({ kind: 'blob', method, repository, url, headers }, signal);
  }

  async #getManifest(
    repository: Repository,
    reference: Tag | Digest,
    signal: AbortSignal,
  ): Promise<FetchedManifest> {
    const reply = await this.#askManifest('GET', repository, reference, signal);
    if (reply.status !== 200) throw this.#refusal(reply, 'GET manifest');
    this.#checkPage(reply);
    const bytes = await readBody(reply, longestManifest, this.host, this.#transport, signal);
    // Of a tag the caller has nothing else to compare with.
    const told = parseDigest(reference) === undefined ? digestHeader(reply) : undefined;
    if (told !== undefined) this.#checkDigest(told, digestOf(bytes, algorithmOf(told)));
    return { bytes, mediaType: mediaTypeOf(reply) ?? 'application/octet-stream' };
  }

  /** `undefined` if the headers are incomplete. They must name the digest, even if the reference is a digest. */
  #readDescriptor(reply: Reply, reference: Tag | Digest): Descriptor | undefined {
    this.#checkPage(reply);
    const asked = parseDigest(reference);
    const digest = digestHeader(reply);
    if (asked !== undefined && digest !== undefined) {
      if (algorithmOf(asked) !== algorithmOf(digest)) return undefined;
      this.#checkDigest(asked, digest);
    }
    const size = sizeOf(reply);
    const mediaType = mediaTypeOf(reply);
    if (digest === undefined || size === undefined || size === 0 || mediaType === undefined) return undefined;
    if (size > longestManifest) {
      throw new UpstreamError('invalid', this.host, `the manifest is larger than ${longestManifest} bytes`);
    }
    return { digest, size, mediaType };
  }

  #checkPage(reply: Reply): void {
    if (!isWebPage(reply)) return;
    reply.body.destroy();
    throw this.#noManifest();
  }

  #noManifest(): UpstreamError {
    return new UpstreamError('invalid', this.host, 'answered with something other than a manifest');
  }

  #checkDigest(expected: Digest, found: Digest): void {
    if (expected === found) return;
    throw new UpstreamError('invalid', this.host, `the manifest ${expected} came as ${found}`);
  }

  #openBlob(
    repository: Repository,
    digest: Digest,
    start: number,
    end: number | undefined,
    signal: AbortSignal,
  ): Promise<OpenedBlob> {
    return this.#requests.guarded(repository, signal, async () => {
      const range = start === 0 && end === undefined ? undefined : `bytes=${start}-${end ?? ''}`;
      const reply = await this.#askBlob('GET', repository, digest, range, signal);
      const isPart = reply.status === 206 && range !== undefined;
      if (!isPart && reply.status !== 200) throw this.#refusal(reply, 'GET blob');
      checkBlobAnswer(reply, digest, this.host);
      checkIdentity(reply, this.host);
      if (isPart) return this.#part(reply, start, end, signal);
      const size = contentLength(reply);
      if (size !== undefined && size < start) {
        throw this.#wrongRange(reply, `has ${size} bytes, fewer than were asked to be left out`);
      }
      return { size, end: undefined, body: this.#body(reply, start, size, signal) };
    });
  }

  /** The answer 206 to what was asked from `start` on, up to `end` or the blob's own. */
  #part(reply: Reply, start: number, end = Infinity, signal: AbortSignal): OpenedBlob {
    const given = readContentRange(reply.headers['content-range']);
    const last = Math.min(end, (given?.total ?? Infinity) - 1);
    if (given?.start !== start || (last !== Infinity && given.end !== last)) {
      throw this.#wrongRange(reply, 'answered GET blob with another range than asked for');
    }
    const length = given.end - start + 1;
    return { size: given.total, end: given.end, body: this.#body(reply, 0, length, signal) };
  }

  #body(reply: Reply, skip: number, length: number | undefined, signal: AbortSignal): BlobBody {
    return new BlobBody(reply, { skip, length }, this.host, this.#transport, signal);
  }

  #refusal(reply: Reply, asked: string): UpstreamError {
    discard(reply);
    return statusError(this.host, reply, asked);
  }

  #wrongRange(reply: Reply, reason: string): UpstreamError {
    reply.body.destroy();
    return new UpstreamError('range', this.host, reason, { status: reply.status });
  }
}

function identitiesOf({ host, credentials = [] }: UpstreamOptions): Identity[] {
  if (credentials.length === 0) return [anybody];
  return credentials.map((each) => ({
    username: each.account,
    identify: () => identify(host, each),
    refused: () => each.refused?.(),
  }));
}

const anybody: Identity = {
  username: undefined,
  identify: () => Promise.resolve(undefined),
  refused: () => undefined,
};

async function identify(host: string, credentials: Credentials): Promise<Login | undefined> {
  try {
    return await credentials.login();
  } catch (cause) {
    throw new UpstreamError('credentials-refused', host, 'the credentials cannot be had', { cause });
  }
}
