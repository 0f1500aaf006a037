import type { Budget } from './upstream.js';

/**
 * What an upstream lets one account pull in a window, as it says itself (`ratelimit-limit`, `ratelimit-remaining`,
 * 429 with `Retry-After`), kept so that it is never overdrawn by more than the requests that are on their way.
 */

/** Whose budget it is. Without a user name the limit is that of the address from which this replica asks. */
export interface Account {
  readonly host: string;
  readonly username: string | undefined;
}

/** Leave to make one request, to be given back once. */
export interface Entry {
  /** When it was given, by the ledger's clock. */
  readonly began: string;
  /** Whether it counts among those on their way. */
  readonly counted: boolean;
}

/** What came of a request. */
export interface Said {
  readonly limit?: number | undefined;
  readonly remaining?: number | undefined;
  readonly windowSeconds?: number | undefined;
  /** `refused`: 429. `silent`: answered, without a word of a limit. `lost`: nothing that tells of a limit. */
  readonly how: 'told' | 'refused' | 'silent' | 'lost';
  /** How long nobody asks, should there be nothing left. */
  readonly pauseMs: number;
}

/** An account as it is now. */
export interface BudgetView {
  /** `undefined`: the upstream has said nothing of a limit. */
  readonly limit: number | undefined;
  /** What the upstream said last, without what has begun since. */
  readonly remaining: number | undefined;
  readonly windowSeconds: number | undefined;
  /** Nobody asks for so long. */
  readonly blockedMs: number;
}

export interface Entered {
  /** `undefined`: not now, but when the view's `blockedMs` are over. */
  readonly entry: Entry | undefined;
  readonly view: BudgetView;
}

/** Where budgets are kept: in this process, or together with the other replicas. Never throws. */
export interface BudgetLedger {
  /**
   * Before a request; `counted`: a pull, by the upstream's rules. When a block may be over, one request gets through
   * to find out, and the others after its answer.
   */
  enter(account: Account, counted: boolean): Promise<Entered>;
  leave(account: Account, entry: Entry, said: Said): Promise<BudgetView>;
}

/** No pause is longer, whatever `Retry-After` says: one request then finds out. */
export const longestBlockMs = 60 * 60_000;
/** A probe whose answer never comes is followed by the next after this. */
export const probeMs = 10_000;
/** Requests on their way are forgotten when none has begun for so long: whoever made them has died. */
export const forgetMs = 60_000;
/** When the last of a budget is on its way: until its answer may be here. */
export const shortMs = 1_000;

interface Kept {
  limit: number | undefined;
  remaining: number | undefined;
  windowSeconds: number | undefined;
  /** Counted requests on their way. */
  running: number;
  lastBegun: number;
  lastSettled: number;
  /** 0: not. */
  blockedUntil: number;
}

/** Budgets that this process keeps for itself. cluster/redis/budget.ts does the same in Redis. */
export class LocalBudgetLedger implements BudgetLedger {
  readonly #accounts = new Map<string, Kept>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  enter(account: Account, counted: boolean): Promise<Entered> {
    const kept = this.#kept(account);
    const now = this.now();
    if (now - kept.lastBegun > forgetMs) kept.running = 0;
    if (kept.blockedUntil > now) return refused(kept, kept.blockedUntil - now);
    const probe = kept.blockedUntil > 0;
    if (probe) kept.blockedUntil = now + probeMs;
    else if (counted && kept.remaining !== undefined && kept.remaining <= kept.running) {
      return refused(kept, shortMs);
    }
    if (counted) {
      kept.running += 1;
      kept.lastBegun = now;
    }
    return Promise.resolve({ entry: { began: String(now), counted }, view: viewOf(kept, 0) });
  }

  leave(account: Account, { began, counted }: Entry, said: Said): Promise<BudgetView> {
    const kept = this.#kept(account);
    const now = this.now();
    if (counted) kept.running = Math.max(0, kept.running - 1);
    // An answer that may be older than the last one can only lower what is left.
    const later = Number(began) > kept.lastSettled;
    // An answer without a word of a limit says only that there is something left.
    const tells = said.how === 'silent' ? later && kept.remaining === 0 : said.how !== 'lost';
    if (tells) {
      kept.lastSettled = now;
      note(kept, said, later, now);
    }
    return Promise.resolve(viewOf(kept, Math.max(0, kept.blockedUntil - now)));
  }

  #kept({ host, username }: Account): Kept {
    const key = `${host}\n${username ?? ''}`;
    let kept = this.#accounts.get(key);
    if (kept === undefined) {
      const unknown = { limit: undefined, remaining: undefined, windowSeconds: undefined };
      kept = { ...unknown, running: 0, lastBegun: 0, lastSettled: -1, blockedUntil: 0 };
      this.#accounts.set(key, kept);
    }
    return kept;
  }
}

function note(kept: Kept, said: Said, later: boolean, now: number): void {
  const { how, pauseMs } = said;
  kept.limit = said.limit ?? kept.limit;
  kept.windowSeconds = said.windowSeconds ?? kept.windowSeconds;
  const remaining = how === 'refused' ? 0 : said.remaining;
  if (remaining === undefined) kept.limit = undefined;
  kept.remaining =
    later || remaining === undefined ? remaining : Math.min(remaining, kept.remaining ?? remaining);
  if (kept.remaining !== 0) kept.blockedUntil = 0;
  else kept.blockedUntil = later ? now + pauseMs : Math.max(kept.blockedUntil, now + pauseMs);
}

function refused(kept: Kept, blockedMs: number): Promise<Entered> {
  return Promise.resolve({ entry: undefined, view: viewOf(kept, blockedMs) });
}

function viewOf({ limit, remaining, windowSeconds, running }: Kept, blockedMs: number): BudgetView {
  const left = remaining === undefined ? undefined : Math.max(0, remaining - running);
  return { limit, remaining: left, windowSeconds, blockedMs };
}

/** Below this share of the limit, tags are served so many times as long without asking. */
const lengthening = [
  { below: 0.2, factor: 10 },
  { below: 0.5, factor: 2 },
] as const;

/** All accounts of an upstream together; `undefined`: nothing is known of a limit. */
export function budgetOf(views: readonly (BudgetView | undefined)[]): Budget | undefined {
  const known = views.filter((view) => view?.limit !== undefined || (view?.blockedMs ?? 0) > 0);
  if (known.length === 0) return undefined;
  const sum = (numbers: readonly (number | undefined)[]): number =>
    numbers.reduce<number>((total, number) => total + (number ?? 0), 0);
  const limit = sum(known.map((view) => view?.limit));
  const remaining = sum(known.map((view) => view?.remaining));
  const share = limit === 0 ? 0 : remaining / limit;
  return {
    limit,
    remaining,
    windowSeconds: known[0]?.windowSeconds,
    freshnessFactor: lengthening.find(({ below }) => share < below)?.factor ?? 1,
  };
}
