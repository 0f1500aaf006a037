import type { Repository } from '../oci/name.js';
import { Authorizer, type Authorization } from './authorizer.js';
import { Breaker, type Verdict } from './breaker.js';
import type { RealmRule } from './realm.js';
import type {
  BreakerState,
  RequestFinished,
  RequestKind,
  UpstreamLog,
  UpstreamObserver,
} from './observer.js';
import { readRateLimit } from './rate-limit.js';
import type { TokenSourceOptions } from './token.js';
import { discard, type Headers, type Method, type Reply, type Transport } from './transport.js';
import { UpstreamError, type RateLimit, type UpstreamCode } from './upstream.js';

/** A request to the registry itself. */
export interface Ask {
  readonly kind: RequestKind;
  readonly method: Method;
  readonly repository: Repository;
  readonly url: URL;
  readonly headers: Headers;
}

export interface RequestsOptions {
  readonly rule: RealmRule;
  readonly transport: Transport;
  readonly tokens: Pick<TokenSourceOptions, 'identify' | 'timeoutMs'>;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  readonly observer: UpstreamObserver;
  readonly log: UpstreamLog;
}

const troubles: ReadonlySet<UpstreamCode> = new Set(['unreachable', 'timeout', 'server-error']);

/** Requests to one registry, with what each of them needs: breaker, authorization, and being counted. */
export class Requests {
  readonly host: string;
  readonly transport: Transport;
  readonly #authorizer: Authorizer;
  readonly #breaker: Breaker;
  #rateLimit: RateLimit | undefined;

  constructor(private readonly options: RequestsOptions) {
    const { rule, transport, tokens, now, observer } = options;
    this.host = rule.host;
    this.transport = transport;
    this.#authorizer = new Authorizer(rule, { ...tokens, host: rule.host, transport, now, observer });
    this.#breaker = new Breaker(now, (state) => this.#breakerChanged(state));
  }

  get rateLimit(): RateLimit | undefined {
    return this.#rateLimit;
  }

  get breakerState(): BreakerState {
    return this.#breaker.state;
  }

  /**
   * Does work that consists of requests, unless the breaker is open, and tells the breaker how it went. A caller that
   * goes away tells nothing; one that gives up by a deadline of its own aborts with an UpstreamError of code
   * `timeout`, which counts as any other time-out.
   */
  async guarded<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const pass = this.#breaker.enter();
    if (pass === undefined) {
      throw new UpstreamError('breaker-open', this.host, 'not asked, it failed too often just before');
    }
    let verdict: Verdict = 'unknown';
    try {
      const result = await work();
      verdict = 'alive';
      return result;
    } catch (error) {
      verdict = verdictOf(error, signal);
      throw error;
    } finally {
      this.#breaker.settle(pass, verdict);
    }
  }

  /** Sends a request, answering a challenge once. Any status but 401 is returned. */
  async ask(ask: Ask, signal: AbortSignal): Promise<Reply> {
    const { repository } = ask;
    let sent = this.#authorizer.ready(repository);
    if (sent === undefined && this.#authorizer.challenged) {
      sent = await this.#authorizer.obtain(repository, signal);
    }
    const reply = await this.#send(ask, sent, signal);
    if (reply.status !== 401) return reply;
    discard(reply);
    this.#checkOwn(reply);
    const answer = await this.#authorizer.answer(reply.headers['www-authenticate'], repository, sent, signal);
    const second = await this.#send(ask, answer, signal);
    if (second.status !== 401) return second;
    discard(second);
    this.#checkOwn(second);
    throw this.#authorizer.rejected(repository, answer);
  }

  /** Where a redirect led, nobody is told who we are. */
  #checkOwn(reply: Reply): void {
    if (!reply.redirected) return;
    throw new UpstreamError('invalid', this.host, 'redirected to where authorization is wanted', {
      status: 401,
    });
  }

  async #send(ask: Ask, authorization: Authorization | undefined, signal: AbortSignal): Promise<Reply> {
    const begun = this.options.now();
    let outcome: RequestFinished['outcome'] = 'aborted';
    try {
      const { url, method, headers } = ask;
      const reply = await this.transport.follow(url, method, headers, authorization?.header, signal);
      outcome = reply.status;
      this.#note(reply);
      return reply;
    } catch (error) {
      if (!signal.aborted && error instanceof UpstreamError) outcome = error.code;
      throw error;
    } finally {
      const seconds = (this.options.now() - begun) / 1000;
      const { kind, method } = ask;
      this.options.observer.requestFinished({ host: this.host, kind, method, outcome, seconds });
    }
  }

  #note(reply: Reply): void {
    const { observer } = this.options;
    if (reply.status === 429) observer.rateLimited(this.host);
    if (reply.redirected) return;
    const limit = readRateLimit(reply.headers, Date.now());
    if (limit === undefined) return;
    this.#rateLimit = limit;
    observer.rateLimitSeen(this.host, limit);
  }

  #breakerChanged(state: BreakerState): void {
    const { log, observer } = this.options;
    const facts = { upstream: this.host };
    if (state === 'open') log.warn(facts, 'upstream does not answer, it is left alone for a while');
    if (state === 'closed') log.info(facts, 'upstream answers again');
    observer.breakerChanged(this.host, state);
  }
}

function verdictOf(error: unknown, signal: AbortSignal): Verdict {
  if (!(error instanceof UpstreamError)) return 'unknown';
  if (troubles.has(error.code)) return 'trouble';
  return signal.aborted ? 'unknown' : 'alive';
}
