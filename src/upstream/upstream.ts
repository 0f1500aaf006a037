import { NoRoom } from '../memory/byte-budget.js';
import type { Descriptor } from '../oci/descriptor.js';
import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { ByteRange } from '../oci/range.js';

/**
 * One upstream registry, as the proxy sees it. Every method throws {@link UpstreamError}, and nothing else, when the
 * upstream does not give what was asked for; and the signal's reason when the signal aborts. Credentials, tokens,
 * redirects, time-outs and the circuit breaker are behind this contract. Repositories are the upstream's own names.
 */
export interface Upstream {
  /** The look-up key: `docker.io`, `ghcr.io`, `registry.local:5000`. */
  readonly host: string;
  /** What is left of its pull limit, as far as this process knows; `undefined`: nothing is known of one. */
  readonly budget: Budget | undefined;
  /** HEAD of a manifest, falling back to GET where HEAD does not tell digest and size. */
  headManifest(repository: Repository, reference: Tag | Digest, signal: AbortSignal): Promise<Descriptor>;
  /** At most {@link longestManifest} bytes. Not verified: the caller compares the digest. */
  fetchManifest(
    repository: Repository,
    reference: Tag | Digest,
    signal: AbortSignal,
  ): Promise<FetchedManifest>;
  /**
   * The size in bytes that the upstream names; `undefined` if it names none. A size alone does not confirm that the
   * upstream has the blob: only a caller that knows the real size can compare both.
   */
  headBlob(repository: Repository, digest: Digest, signal: AbortSignal): Promise<number | undefined>;
  /**
   * Opens a blob from byte `offset` on. A server that ignores `Range` is answered by skipping the prefix. The body
   * throws UpstreamError when it breaks, stalls or ends early; it ends normally only after the last byte.
   */
  fetchBlob(
    repository: Repository,
    digest: Digest,
    offset: number,
    signal: AbortSignal,
  ): Promise<FetchedBlob>;
  /** Opens one range. Throws code `range` where the upstream does not answer 206 with exactly that range. */
  fetchRange(
    repository: Repository,
    digest: Digest,
    range: ByteRange,
    signal: AbortSignal,
  ): Promise<FetchedBlob>;
  /** All tags, following the upstream's pages. */
  listTags(repository: Repository, signal: AbortSignal): Promise<string[]>;
  /** The whole image index of referrers, unfiltered, pages merged. Code `not-found` where the upstream has no such API. */
  listReferrers(repository: Repository, digest: Digest, signal: AbortSignal): Promise<Referrers>;
}

/** 4 MiB, as containerd and the distribution-spec have it. */
export const longestManifest = 4 * 1024 * 1024;

export interface FetchedManifest {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

export interface FetchedBlob {
  /** Of the whole blob, not of the rest; `undefined` where the upstream does not say. */
  readonly size: number | undefined;
  /** Each chunk is its reader's alone, for good. */
  readonly body: AsyncIterable<Uint8Array>;
}

export interface Referrers {
  /** Descriptors as the upstream gave them. */
  readonly manifests: readonly Record<string, unknown>[];
}

/**
 * `answer`: the upstream said no, and clients are told so. `trouble`: it said nothing that can be relied on; what is
 * cached is served instead.
 */
export type UpstreamKind = 'answer' | 'trouble';

export type UpstreamCode =
  // answers
  | 'not-found' // 404, and 401 without credentials or beyond what they give access to
  | 'denied' // 403
  // trouble
  | 'credentials-refused' // our own
  | 'rate-limited' // 429
  | 'unreachable' // no connection, DNS, TLS
  | 'timeout' // no progress
  | 'server-error' // 5xx
  | 'breaker-open' // not asked, it failed too often just before
  | 'realm-refused' // the token realm is not one that this upstream's credentials may go to
  | 'redirect-refused' // it led to an address further inside than its own
  | 'too-large' // a blob, beyond what the operator allows
  | 'broken-body' // ended early, reset
  | 'range' // no or another range than asked for
  | 'invalid' // an answer that no registry gives: wrong status, wrong form, too large
  | 'no-room'; // this mirror has no room in memory for the answer

const answers: ReadonlySet<UpstreamCode> = new Set(['not-found', 'denied']);

export class UpstreamError extends Error {
  override readonly name = 'UpstreamError';
  readonly kind: UpstreamKind;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  /** Whether the failing host was the target of a redirect, and not the registry itself. */
  readonly redirected: boolean;
  constructor(
    readonly code: UpstreamCode,
    readonly host: string,
    /** Says what happened without the host, credentials or a URL's query: `answered 503 to HEAD manifest`. */
    readonly reason: string,
    facts: {
      status?: number | undefined;
      retryAfterMs?: number | undefined;
      redirected?: boolean;
      cause?: unknown;
    } = {},
  ) {
    super(`upstream ${host}: ${reason}`, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.kind = answers.has(code) ? 'answer' : 'trouble';
    this.status = facts.status;
    this.retryAfterMs = facts.retryAfterMs;
    this.redirected = facts.redirected ?? false;
  }
}

export function isTrouble(error: unknown): error is UpstreamError {
  return error instanceof UpstreamError && error.kind === 'trouble';
}

/** When the memory may have room again. */
const noRoomMs = 5_000;

/** The error as trouble with the upstream: also where there is no room for its content; `undefined`: it is another error. */
export function troubleOf(error: unknown, host: string): UpstreamError | undefined {
  if (isTrouble(error)) return error;
  if (!(error instanceof NoRoom)) return undefined;
  const facts = { retryAfterMs: noRoomMs, cause: error };
  return new UpstreamError('no-room', host, 'the mirror has no room in memory for the answer', facts);
}

/** An upstream's pull limit (Docker Hub's `ratelimit-*` headers), of all our credentials together. */
export interface Budget {
  readonly limit: number;
  /** Without what is on its way. */
  readonly remaining: number;
  readonly windowSeconds: number | undefined;
  /** Tags are served so many times as long without asking. 1: there is enough, also for work that can wait. */
  readonly freshnessFactor: number;
}
