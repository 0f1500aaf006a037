import { LRUCache } from 'lru-cache';
import type { BreakerState } from './observer.js';

/** How a request that was let through ended. `unknown`: it was given up before it told anything. */
export type Verdict = 'alive' | 'trouble' | 'unknown';

/** Leave to make one request; to be settled once. */
export interface Pass {
  readonly probe: boolean;
}

const troublesToOpen = 5;
const shortestOpenMs = 10_000;
const longestOpenMs = 60_000;
const mostRepositories = 1_000;

/**
 * Keeps an upstream that does not answer from costing every request a time-out: after five troubles in a row nobody
 * asks for 10 s, then one request probes while the others are still refused. A probe that fails doubles the pause,
 * to at most 60 s.
 */
export class Breaker {
  #state: BreakerState = 'closed';
  #troubles = 0;
  /** The repositories whose failures have been counted. */
  readonly #failed = new Set<string>();
  #openMs = shortestOpenMs;
  #openUntil = 0;

  constructor(
    /** Milliseconds of a clock that never goes back. */
    private readonly now: () => number,
    private readonly onChange: (state: BreakerState) => void,
  ) {}

  get state(): BreakerState {
    return this.#state;
  }

  /** `undefined`: do not ask. */
  enter(): Pass | undefined {
    if (this.#state === 'closed') return { probe: false };
    if (this.#state === 'half-open' || this.now() < this.#openUntil) return undefined;
    this.#change('half-open');
    return { probe: true };
  }

  /** Failures of the same `repository` in a row count once. */
  settle(pass: Pass, verdict: Verdict, repository?: string): void {
    if (verdict === 'alive') return this.#close();
    if (pass.probe) return this.#reopen(verdict);
    // A request from before the breaker opened tells nothing new.
    if (verdict === 'unknown' || this.#state !== 'closed') return;
    if (repository !== undefined) {
      if (this.#failed.has(repository)) return;
      this.#failed.add(repository);
    }
    this.#troubles += 1;
    if (this.#troubles >= troublesToOpen) this.#open();
  }

  #close(): void {
    this.#troubles = 0;
    this.#failed.clear();
    this.#openMs = shortestOpenMs;
    if (this.#state !== 'closed') this.#change('closed');
  }

  /** After a probe: the next request may probe at once where this one was given up. */
  #reopen(verdict: Verdict): void {
    if (this.#state !== 'half-open') return;
    if (verdict === 'unknown') return this.#change('open');
    this.#openMs = Math.min(this.#openMs * 2, longestOpenMs);
    this.#open();
  }

  #open(): void {
    this.#openUntil = this.now() + this.#openMs;
    this.#change('open');
  }

  #change(state: BreakerState): void {
    this.#state = state;
    this.onChange(state);
  }
}

/**
 * How a request for a repository ended. `failure`: the upstream answered, and the answer is a failure (5xx).
 * `unconnected`: there was no connection to the upstream itself.
 */
export type Outcome = Verdict | 'failure' | 'unconnected';

/** Permission to make one request for a repository. The caller settles it once. */
export interface RepositoryPass {
  readonly repository: string;
  readonly whole: Pass;
  readonly single: Pass | undefined;
}

/**
 * The breakers of one upstream: one for the whole upstream, and one for each repository that fails. An upstream may
 * fail for one strange name and answer for all others. So failures of one repository in a row open only its own
 * breaker, and count as one failure of the upstream. Clients can invent any number of such names: an answer that is a
 * failure counts for the upstream only if the upstream has answered for the repository before. Each failed connection
 * counts as a failure of the upstream.
 */
export class Breakers {
  readonly #whole: Breaker;
  readonly #single = new LRUCache<string, Breaker>({ max: mostRepositories });
  /** Repositories for which the upstream has answered. */
  readonly #answered = new LRUCache<string, true>({ max: mostRepositories });

  constructor(
    private readonly now: () => number,
    onChange: (state: BreakerState) => void,
    private readonly onRepositoryOpen: (repository: string) => void,
  ) {
    this.#whole = new Breaker(now, onChange);
  }

  /** The state of the breaker for the whole upstream. */
  get state(): BreakerState {
    return this.#whole.state;
  }

  /** `undefined`: do not ask. */
  enter(repository: string): RepositoryPass | undefined {
    const whole = this.#whole.enter();
    if (whole === undefined) return undefined;
    const breaker = this.#single.get(repository);
    const single = breaker?.enter();
    if (breaker === undefined || single !== undefined) return { repository, whole, single };
    this.#whole.settle(whole, 'unknown');
    return undefined;
  }

  settle({ repository, whole, single }: RepositoryPass, outcome: Outcome): void {
    if (outcome === 'unconnected') this.#whole.settle(whole, 'trouble');
    else this.#whole.settle(whole, this.#verdictOn(repository, outcome), repository);
    if (outcome === 'alive') {
      this.#answered.set(repository, true);
      this.#single.delete(repository);
    } else if (outcome === 'trouble' || outcome === 'failure') {
      this.#breakerOf(repository).settle(single ?? { probe: false }, 'trouble');
    } else if (single !== undefined) this.#single.get(repository)?.settle(single, 'unknown');
  }

  /** On the whole upstream. */
  #verdictOn(repository: string, outcome: Verdict | 'failure'): Verdict {
    if (outcome !== 'failure') return outcome;
    return this.#answered.has(repository) ? 'trouble' : 'unknown';
  }

  #breakerOf(repository: string): Breaker {
    const known = this.#single.get(repository);
    if (known !== undefined) return known;
    const breaker = new Breaker(this.now, (state) => {
      if (state === 'open') this.onRepositoryOpen(repository);
    });
    this.#single.set(repository, breaker);
    return breaker;
  }
}
