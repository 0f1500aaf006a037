import type { Budget, UpstreamCode } from './upstream.js';

export type RequestKind = 'manifest' | 'blob' | 'tags' | 'referrers' | 'token' | 'caller';
/** `begun`: a blob; `resumed`: a part that broke; `objected`: the upstream gives none, it is asked for whole blobs. */
export type PartsEvent = 'begun' | 'resumed' | 'objected';
export type BreakerState = 'closed' | 'open' | 'half-open';

/** One request to an upstream, its redirects included, from sending it to the headers of the last answer. */
export interface RequestFinished {
  readonly host: string;
  readonly kind: RequestKind;
  readonly method: 'GET' | 'HEAD';
  /** The status, or why there is none. `aborted`: the caller went away. */
  readonly outcome: number | UpstreamCode | 'aborted';
  readonly seconds: number;
}

/** What the metrics want to know. Called synchronously; must not throw. No argument holds a secret or a URL. */
export interface UpstreamObserver {
  requestFinished(event: RequestFinished): void;
  /** The upstream answered 429. */
  rateLimited(host: string): void;
  /** What is left of the pull limit; `undefined`: nothing is known of one any more. */
  budgetChanged(host: string, budget: Budget | undefined): void;
  /** What we said of ourselves was not taken, or could not be had. */
  credentialsRefused(host: string): void;
  tokenFetched(host: string, outcome: 'granted' | UpstreamCode): void;
  breakerChanged(host: string, state: BreakerState): void;
  /** Of blobs that come in parts over several connections. */
  partsFetched(host: string, event: PartsEvent): void;
}

/** The part of the program's log that this folder uses. */
export interface UpstreamLog {
  info(facts: Readonly<Record<string, unknown>>, message: string): void;
  warn(facts: Readonly<Record<string, unknown>>, message: string): void;
  error(facts: Readonly<Record<string, unknown>>, message: string): void;
}
