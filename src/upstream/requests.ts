import type { Repository } from '../oci/name.js';
import { Authorizer, type Authorization } from './authorizer.js';
import { Breakers, type Outcome } from './breaker.js';
import type { RealmRule } from './realm.js';
import type {
  BreakerState,
  RequestFinished,
  RequestKind,
  UpstreamLog,
  UpstreamObserver,
} from './observer.js';
import {
  budgetOf,
  LocalBudgetLedger,
  longestBlockMs,
  type Account,
  type BudgetLedger,
  type BudgetView,
  type Said,
} from './rate-budget.js';
import { readRateLimit, readRetryAfter } from './rate-limit.js';
import { Standing } from './standing.js';
import type { TokenSourceOptions } from './token.js';
import { discard, type Headers, type Method, type Reply, type Transport } from './transport.js';
import { UpstreamError, type Budget, type UpstreamCode } from './upstream.js';

/** A request to the registry itself. */
export interface Ask {
  readonly kind: RequestKind;
  readonly method: Method;
  readonly repository: Repository;
  readonly url: URL;
  readonly headers: Headers;
}

/** Somebody whom the upstream knows us as; without a user name: anybody. */
export interface Identity {
  readonly username: string | undefined;
  readonly identify: TokenSourceOptions['identify'];
  /** The upstream, or its token server, did not take it. */
  refused(): void;
}

export interface RequestsOptions {
  readonly rule: RealmRule;
  readonly transport: Transport;
  /** Who we may be, in the order of their use; at least one. */
  readonly identities: readonly Identity[];
  readonly tokenMs: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  readonly observer: UpstreamObserver;
  readonly log: UpstreamLog;
}

const troubles: ReadonlySet<UpstreamCode> = new Set(['unreachable', 'timeout', 'server-error']);

/** At zero an upstream without `Retry-After` is asked again after a tenth of its window, within these. */
const shortestPauseMs = 1_000;
const longestPauseMs = 60_000;
const unknownPauseMs = 5_000;

/** An identity with what is kept of it. */
interface Known {
  /** In the list, from 0. */
  readonly place: number;
  readonly account: Account;
  readonly authorizer: Authorizer;
  refused(): void;
}

/** Requests to one registry, with what each of them needs: breaker, authorization, budget, and being counted. */
export class Requests {
  readonly host: string;
  readonly transport: Transport;
  readonly #identities: readonly Known[];
  readonly #standing: Standing<Known>;
  readonly #breakers: Breakers;
  readonly #views: (BudgetView | undefined)[] = [];
  #ledger: BudgetLedger = new LocalBudgetLedger();
  #budget: Budget | undefined;

  constructor(private readonly options: RequestsOptions) {
    const { rule, transport, identities, tokenMs, now, observer, log } = options;
    this.host = rule.host;
    this.transport = transport;
    const { host } = rule;
    this.#identities = identities.map(({ username, identify, refused }, place) => ({
      place,
      refused,
      account: { host, username },
      authorizer: new Authorizer(rule, { identify, timeoutMs: tokenMs, host, transport, now, observer }),
    }));
    this.#standing = new Standing(host, this.#identities, now, log);
    this.#breakers = new Breakers(
      now,
      (state) => this.#breakerChanged(state),
      (repository) => this.#repositoryLeftAlone(repository),
    );
  }

  get budget(): Budget | undefined {
    return this.#budget;
  }

  /** From now on budgets are kept there. */
  keepBudgetIn(ledger: BudgetLedger): void {
    this.#ledger = ledger;
  }

  get breakerState(): BreakerState {
    return this.#breakers.state;
  }

  /**
   * Runs requests for a repository, unless the breaker of the upstream or of the repository is open, and reports the
   * result to the breakers. A caller that leaves reports nothing. A caller with a deadline of its own aborts with an
   * UpstreamError of code `timeout`, which counts like any other time-out.
   */
  async guarded<T>(repository: Repository, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const pass = this.#breakers.enter(repository);
    if (pass === undefined) {
      throw new UpstreamError('breaker-open', this.host, 'not asked, it failed too often just before');
    }
    let outcome: Outcome = 'unknown';
    try {
      const result = await work();
      outcome = 'alive';
      return result;
    } catch (error) {
      outcome = outcomeOf(error, signal);
      throw error;
    } finally {
      this.#breakers.settle(pass, outcome);
    }
  }

  /**
   * Sends a request, answering a challenge once, as the first identity whose credentials are taken. Any status but 401
   * is returned. A manifest is asked for within the pull limit: as the first that has something left, or not at all.
   */
  async ask(ask: Ask, signal: AbortSignal): Promise<Reply> {
    let waitMs = Infinity;
    let refusal: UpstreamError | undefined;
    for (const known of this.#standing.usable()) {
      try {
        const reply =
          ask.kind === 'manifest'
            ? await this.#askWithin(known, ask, signal)
            : await this.#askAs(known.authorizer, ask, signal);
        if (reply !== undefined) {
          this.#standing.taken(known);
          return reply;
        }
        waitMs = Math.min(waitMs, this.#views[known.place]?.blockedMs ?? 0);
      } catch (error) {
        if (!(error instanceof UpstreamError) || error.code !== 'credentials-refused') throw error;
        this.options.observer.credentialsRefused(this.host);
        known.refused();
        this.#standing.refused(known);
        refusal = error;
      }
    }
    if (refusal !== undefined && waitMs === Infinity) throw refusal;
    const reason = 'the pull limit is used up, not asked';
    throw new UpstreamError('rate-limited', this.host, reason, { retryAfterMs: waitMs });
  }

  /** Within the identity's pull limit; `undefined`: nothing is left of it. */
  async #askWithin(
    { place, account, authorizer }: Known,
    ask: Ask,
    signal: AbortSignal,
  ): Promise<Reply | undefined> {
    const { entry, view } = await this.#ledger.enter(account, ask.method === 'GET');
    this.#see(place, view);
    if (entry === undefined) return undefined;
    let said: Said = { how: 'lost', pauseMs: 0 };
    try {
      const reply = await this.#askAs(authorizer, ask, signal);
      said = readSaid(reply);
      if (said.how !== 'refused' || this.#identities.length === 1) return reply;
      discard(reply);
      return undefined;
    } finally {
      this.#see(place, await this.#ledger.leave(account, entry, said));
    }
  }

  async #askAs(authorizer: Authorizer, ask: Ask, signal: AbortSignal): Promise<Reply> {
    const { repository } = ask;
    let sent = authorizer.ready(repository);
    if (sent === undefined && authorizer.challenged) {
      sent = await authorizer.obtain(repository, signal);
    }
    const reply = await this.#send(ask, sent, signal);
    if (reply.status !== 401) return reply;
    discard(reply);
    this.#checkOwn(reply);
    const answer = await authorizer.answer(reply.headers['www-authenticate'], repository, sent, signal);
    const second = await this.#send(ask, answer, signal);
    if (second.status !== 401) return second;
    discard(second);
    this.#checkOwn(second);
    throw authorizer.rejected(repository, answer);
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
      if (reply.status === 429) this.options.observer.rateLimited(this.host);
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

  #see(index: number, view: BudgetView): void {
    this.#views[index] = view;
    const before = this.#budget;
    this.#budget = budgetOf(this.#views);
    if (this.#budget !== before) this.options.observer.budgetChanged(this.host, this.#budget);
    const [had, has] = [before?.remaining !== 0, this.#budget?.remaining !== 0];
    if (had === has) return;
    const { log } = this.options;
    const facts = { upstream: this.host, limit: this.#budget?.limit };
    if (has) log.info(facts, 'the upstream lets us pull again');
    else log.warn(facts, 'the pull limit is used up, serving what is here');
  }

  /** Logs at level info, because any client can choose the name. */
  #repositoryLeftAlone(repository: string): void {
    const facts = { upstream: this.host, repository };
    this.options.log.info(facts, 'the upstream fails for this repository: requests for it stop for a while');
  }

  #breakerChanged(state: BreakerState): void {
    const { log, observer } = this.options;
    const facts = { upstream: this.host };
    if (state === 'open') log.warn(facts, 'upstream does not answer, it is left alone for a while');
    if (state === 'closed') log.info(facts, 'upstream answers again');
    observer.breakerChanged(this.host, state);
  }
}

function outcomeOf(error: unknown, signal: AbortSignal): Outcome {
  if (!(error instanceof UpstreamError)) return 'unknown';
  if (error.code === 'unreachable' && !error.redirected) return 'unconnected';
  if (error.code === 'server-error') return 'failure';
  if (troubles.has(error.code)) return 'trouble';
  if (error.code === 'rate-limited' && error.status === undefined) return 'unknown'; // not asked at all
  return signal.aborted ? 'unknown' : 'alive';
}

function readSaid(reply: Reply): Said {
  const retryMs = readRetryAfter(reply.headers['retry-after'], Date.now());
  const told = reply.redirected ? undefined : readRateLimit(reply.headers);
  const pauseMs = Math.min(retryMs ?? pauseOf(told?.windowSeconds), longestBlockMs);
  if (reply.status === 429) return { ...told, how: 'refused', pauseMs };
  if (told !== undefined) return { ...told, how: 'told', pauseMs };
  return { how: reply.status < 500 && !reply.redirected ? 'silent' : 'lost', pauseMs };
}

function pauseOf(windowSeconds: number | undefined): number {
  if (windowSeconds === undefined) return unknownPauseMs;
  return Math.min(Math.max(windowSeconds * 100, shortestPauseMs), longestPauseMs);
}
