import { LRUCache } from 'lru-cache';
import type { Repository } from '../oci/name.js';
import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import { readBody } from './body.js';
import { basicHeader, type Login } from './credentials.js';
import { parseObject } from './json.js';
import type { RequestFinished, UpstreamObserver } from './observer.js';
import { statusError } from './status.js';
import { discard, type Reply, type Transport } from './transport.js';
import { UpstreamError } from './upstream.js';

/** A token server, as a Bearer challenge names it. The realm passed the realm rule. */
export interface TokenServer {
  readonly realm: URL;
  readonly service: string | undefined;
}

/** What does not depend on which server is asked. */
export interface TokenSourceOptions {
  readonly host: string;
  readonly transport: Transport;
  /** Who we are, as it is now; `undefined`: anonymous. */
  readonly identify: () => Promise<Login | undefined>;
  readonly timeoutMs: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  readonly observer: Pick<UpstreamObserver, 'requestFinished' | 'tokenFetched'>;
}

interface Token {
  readonly value: string;
  readonly expires: number;
}

/** A token is some 2 KiB. */
const mostTokenBytes = 4 * 1024 * 1024;
const longestAnswer = 64 * 1024;
/** Distribution's token specification: without `expires_in`, 60 s. */
const defaultLifetimeMs = 60_000;
const longestSlackMs = 10_000;
const headerSafe = /^[\x21-\x7e]{1,16384}$/;

/**
 * Bearer tokens of one upstream and token server, one per repository (scope `repository:<name>:pull`), kept until shortly before they
 * expire. However many requests want the same token, the server is asked once; that request belongs to none of them
 * and has a time-out of its own. See Distribution's "Docker Registry v2 authentication via central service".
 */
export class TokenSource {
  readonly #tokens = new LRUCache<Repository, Token>({
    maxSize: mostTokenBytes,
    sizeCalculation: ({ value }, repository) => value.length + repository.length + 200,
  });
  readonly #pending = new SingleFlight<string>();

  constructor(
    private readonly server: TokenServer,
    private readonly options: TokenSourceOptions,
  ) {}

  isOf(server: TokenServer): boolean {
    return this.server.realm.href === server.realm.href && this.server.service === server.service;
  }

  cached(repository: Repository): string | undefined {
    const token = this.#tokens.get(repository);
    return token !== undefined && this.options.now() < token.expires ? token.value : undefined;
  }

  /** Forgets a token that the registry did not take. One that has replaced it meanwhile stays. */
  drop(repository: Repository, value: string): void {
    if (this.#tokens.peek(repository)?.value === value) this.#tokens.delete(repository);
  }

  /** @throws UpstreamError as {@link statusError}, and `credentials-refused`; or the signal's reason. */
  obtain(repository: Repository, signal: AbortSignal): Promise<string> {
    const cached = this.cached(repository);
    if (cached !== undefined) return Promise.resolve(cached);
    return waitFor(
      this.#pending.join(repository, () => this.#fetch(repository)),
      signal,
    );
  }

  async #fetch(repository: Repository): Promise<string> {
    const { host, observer } = this.options;
    try {
      const token = await this.#ask(repository);
      this.#tokens.set(repository, token);
      observer.tokenFetched(host, 'granted');
      return token.value;
    } catch (error) {
      if (error instanceof UpstreamError) observer.tokenFetched(host, error.code);
      throw error;
    }
  }

  async #ask(repository: Repository): Promise<Token> {
    const { host, transport, timeoutMs, now } = this.options;
    const url = new URL(this.server.realm);
    if (this.server.service !== undefined) url.searchParams.set('service', this.server.service);
    url.searchParams.set('scope', `repository:${repository}:pull`);
    const deadline = AbortSignal.timeout(timeoutMs);
    const asked = now();
    try {
      const identity = await waitFor(this.options.identify(), deadline);
      const reply = await this.#request(url, identity, deadline);
      if (reply.status !== 200) throw await this.#refusal(reply, identity, deadline);
      const answer = await readBody(reply, longestAnswer, host, transport, deadline);
      return this.#read(answer, asked);
    } catch (error) {
      if (!deadline.aborted) throw error;
      throw new UpstreamError('timeout', host, `no token within ${timeoutMs} ms`);
    }
  }

  /**
   * Whether the token server takes the credentials at all, by a request without a scope. Some (ghcr.io) answer 403
   * both to wrong credentials and to a repository that right ones do not reach; only the first is trouble.
   */
  async #isKnown(identity: Login, signal: AbortSignal): Promise<boolean> {
    const url = new URL(this.server.realm);
    if (this.server.service !== undefined) url.searchParams.set('service', this.server.service);
    const reply = await this.#request(url, identity, signal);
    discard(reply);
    return reply.status === 200;
  }

  async #request(url: URL, identity: Login | undefined, signal: AbortSignal): Promise<Reply> {
    const { host, transport, now, observer } = this.options;
    const headers = {
      accept: 'application/json',
      'accept-encoding': 'identity',
      'user-agent': 'cistern',
      ...(identity === undefined ? {} : { authorization: basicHeader(identity.username, identity.password) }),
    };
    const begun = now();
    const finished = (outcome: RequestFinished['outcome']): void =>
      observer.requestFinished({
        host,
        kind: 'token',
        method: 'GET',
        outcome,
        seconds: (now() - begun) / 1000,
      });
    try {
      // Redirects are not followed: without credentials the answer would be another one's.
      const reply = await transport.request(url, 'GET', headers, signal);
      finished(reply.status);
      return reply;
    } catch (error) {
      finished(error instanceof UpstreamError ? error.code : 'timeout');
      throw error;
    }
  }

  async #refusal(reply: Reply, identity: Login | undefined, signal: AbortSignal): Promise<UpstreamError> {
    discard(reply);
    const { host } = this.options;
    const { status } = reply;
    const refused = identity !== undefined && (status === 401 || status === 403);
    if (refused && !(status === 403 && (await this.#isKnown(identity, signal)))) {
      return new UpstreamError('credentials-refused', host, 'the token server refused the credentials', {
        status,
      });
    }
    return statusError(host, reply, 'the request for a token');
  }

  #read(answer: Buffer, asked: number): Token {
    const fields = parseObject(answer);
    const value = fields?.['token'] ?? fields?.['access_token'];
    if (typeof value !== 'string' || !headerSafe.test(value)) {
      throw new UpstreamError('invalid', this.options.host, 'the token server answered without a token');
    }
    const seconds = fields?.['expires_in'];
    const lifetime = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : defaultLifetimeMs;
    return { value, expires: asked + lifetime - Math.min(lifetime / 4, longestSlackMs) };
  }
}
