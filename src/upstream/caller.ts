import { createHmac, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { parseDigest, type Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import { manifestTypes } from './accept.js';
import { askBlobSize } from './blob-size.js';
import { isWebPage, namesDigest } from './content-headers.js';
import { Authorizer, type Authorization } from './authorizer.js';
import type { UpstreamObserver } from './observer.js';
import type { RealmRule } from './realm.js';
import { statusError } from './status.js';
import { discard, type Headers, type Method, type Reply, type Transport } from './transport.js';
import { UpstreamError } from './upstream.js';

/** Who somebody who asks this mirror is to the upstream. */
export interface Caller {
  readonly username: string;
  /** Secret. */
  readonly password: string;
}

/** What the caller wants to read of a repository. */
export type Wanted =
  | { readonly kind: 'manifest'; readonly reference: Tag | Digest }
  | { readonly kind: 'blob'; readonly reference: Digest }
  | { readonly kind: 'tags' };

/** `refused`: the credential (401). `denied`: the repository, to that credential (403). `unknown`: 404. */
export type CallerVerdict = 'allowed' | 'refused' | 'denied' | 'unknown';

export interface CallerCheckOptions {
  readonly rule: RealmRule;
  /** What stands before the repository in a URL: `https://ghcr.io/v2`. */
  readonly base: string;
  readonly transport: Transport;
  /** Runs requests for a repository unless a breaker is open. */
  readonly guarded: <T>(repository: Repository, signal: AbortSignal, work: () => Promise<T>) => Promise<T>;
  /** For a whole answer. */
  readonly answerMs: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  readonly observer: Pick<UpstreamObserver, 'requestFinished'>;
}

/** How long the upstream's yes holds. */
export const allowedMs = 5 * 60_000;
/** How long its no does: a client asks for many things at once. */
export const refusedMs = 5_000;
const mostRemembered = 10_000;
const headers: Headers = { accept: manifestTypes, 'accept-encoding': 'identity', 'user-agent': 'cistern' };

/** A request within a repository. */
interface Question {
  readonly method: Method;
  readonly path: string;
  readonly range?: string | undefined;
}

/**
 * Asks an upstream whether a caller may read there (`verifycaller`): HEAD with the caller's own credential, which
 * answers the upstream's challenge as ours would, under the same rules for realms and redirects. A yes is remembered
 * for the repository, a no for what was asked for; both under a keyed hash, so that no credential is kept.
 */
export class CallerCheck {
  readonly #key = randomBytes(32);
  readonly #allowed: LRUCache<string, true>;
  readonly #refused: LRUCache<string, CallerVerdict>;
  readonly #pending = new SingleFlight<CallerVerdict>();

  constructor(private readonly options: CallerCheckOptions) {
    const clock = { max: mostRemembered, ttlResolution: 0, perf: { now: options.now } };
    this.#allowed = new LRUCache({ ...clock, ttl: allowedMs });
    this.#refused = new LRUCache({ ...clock, ttl: refusedMs });
  }

  /** @throws UpstreamError of kind `trouble` where the upstream does not say; or the signal's reason. */
  async ask(
    caller: Caller,
    repository: Repository,
    wanted: Wanted,
    signal: AbortSignal,
  ): Promise<CallerVerdict> {
    const whole = this.#hash(caller, repository);
    if (this.#allowed.has(whole)) return 'allowed';
    const single = this.#hash(caller, repository, wanted);
    const refused = this.#refused.get(single);
    if (refused !== undefined) return refused;
    const pending = this.#pending.join(single, async () => {
      const verdict = await this.#askUpstream(caller, repository, wanted);
      if (verdict === 'allowed') this.#allowed.set(whole, true);
      else this.#refused.set(single, verdict);
      return verdict;
    });
    return waitFor(pending, signal);
  }

  #hash({ username, password }: Caller, repository: Repository, wanted?: Wanted): string {
    const text = JSON.stringify([username, password, repository, wanted]);
    return createHmac('sha256', this.#key).update(text).digest('base64');
  }

  /** The request belongs to everybody who waits for it, and has a time-out of its own. */
  async #askUpstream(caller: Caller, repository: Repository, wanted: Wanted): Promise<CallerVerdict> {
    const { rule, guarded, answerMs } = this.options;
    const deadline = new AbortController();
    const late = new UpstreamError('timeout', rule.host, `did not say within ${answerMs} ms who may read`);
    const timer = setTimeout(() => deadline.abort(late), answerMs);
    try {
      return await guarded(repository, deadline.signal, () =>
        this.#verdict(caller, repository, wanted, deadline.signal),
      );
    } finally {
      clearTimeout(timer);
    }
  }

  async #verdict(
    caller: Caller,
    repository: Repository,
    wanted: Wanted,
    signal: AbortSignal,
  ): Promise<CallerVerdict> {
    try {
      await this.#read(caller, repository, wanted, signal);
      return 'allowed';
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      if (error.code === 'credentials-refused') return 'refused';
      if (error.code === 'not-found') return error.status === 401 ? 'refused' : 'unknown';
      if (error.code === 'denied') return 'denied';
      throw error;
    }
  }

  /** Throws if the upstream does not let the caller read, or if the answer is not that of a registry. */
  async #read(caller: Caller, repository: Repository, wanted: Wanted, signal: AbortSignal): Promise<void> {
    const { host } = this.options.rule;
    const ask = (question: Question): Promise<Reply> => this.#request(caller, repository, question, signal);
    if (wanted.kind === 'blob') {
      const path = `blobs/${wanted.reference}`;
      await askBlobSize(host, wanted.reference, (method, range) => ask({ method, path, range }));
      return;
    }
    const reply = await ask(
      wanted.kind === 'tags'
        ? { method: 'GET', path: 'tags/list?n=1' }
        : { method: 'HEAD', path: `manifests/${wanted.reference}` },
    );
    if (reply.status !== 200) throw statusError(host, reply, `${wanted.kind} for a caller`);
    const asked = wanted.kind === 'manifest' ? parseDigest(wanted.reference) : undefined;
    if (isWebPage(reply) || (asked !== undefined && namesDigest(reply, asked) === false)) {
      throw new UpstreamError('invalid', host, `answered with something other than ${wanted.kind}`);
    }
  }

  async #request(
    caller: Caller,
    repository: Repository,
    question: Question,
    signal: AbortSignal,
  ): Promise<Reply> {
    const { rule, transport, now, observer, answerMs } = this.options;
    const first = await this.#send(repository, question, undefined, signal);
    if (first.status !== 401) return first;
    this.#checkOwn(first);
    // Made for this one question: what it learns of the caller is gone with it.
    const authorizer = new Authorizer(rule, {
      host: rule.host,
      transport,
      identify: () => Promise.resolve(caller),
      timeoutMs: answerMs,
      now,
      // A caller's wrong password is no trouble with a credential of ours.
      observer: { requestFinished: (event) => observer.requestFinished(event), tokenFetched: () => {} },
    });
    const challenge = first.headers['www-authenticate'];
    const answer = await authorizer.answer(challenge, repository, undefined, signal);
    const reply = await this.#send(repository, question, answer, signal);
    if (reply.status !== 401) return reply;
    this.#checkOwn(reply);
    throw authorizer.rejected(repository, answer);
  }

  async #send(
    repository: Repository,
    { method, path, range }: Question,
    authorization: Authorization | undefined,
    signal: AbortSignal,
  ): Promise<Reply> {
    const { base, transport, rule, now, observer } = this.options;
    const url = new URL(`${base}/${repository}/${path}`);
    const all = range === undefined ? headers : { ...headers, range };
    const begun = now();
    const finished = (outcome: number | UpstreamError['code']): void =>
      observer.requestFinished({
        host: rule.host,
        kind: 'caller',
        method,
        outcome,
        seconds: (now() - begun) / 1000,
      });
    try {
      const reply = await transport.follow(url, method, all, authorization?.header, signal);
      discard(reply);
      finished(reply.status);
      return reply;
    } catch (error) {
      finished(error instanceof UpstreamError ? error.code : 'timeout');
      throw error;
    }
  }

  /** Where a redirect led, nobody is told who the caller is. */
  #checkOwn(reply: Reply): void {
    if (!reply.redirected) return;
    throw new UpstreamError('invalid', this.options.rule.host, 'redirected to where authorization is wanted');
  }
}
