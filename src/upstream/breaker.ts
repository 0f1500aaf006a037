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

/**
 * Keeps an upstream that does not answer from costing every request a time-out: after five troubles in a row nobody
 * asks for 10 s, then one request probes while the others are still refused. A probe that fails doubles the pause,
 * to at most 60 s.
 */
export class Breaker {
  #state: BreakerState = 'closed';
  #troubles = 0;
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

  settle(pass: Pass, verdict: Verdict): void {
    if (verdict === 'alive') return this.#close();
    if (pass.probe) return this.#reopen(verdict);
    // A request from before the breaker opened tells nothing new.
    if (verdict === 'unknown' || this.#state !== 'closed') return;
    this.#troubles += 1;
    if (this.#troubles >= troublesToOpen) this.#open();
  }

  #close(): void {
    this.#troubles = 0;
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
