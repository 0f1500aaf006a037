import { waitFor } from '../async/wait.js';

/** `warn`: it works, and may not for long, or not as well as it could. */
export type Verdict = 'ok' | 'warn' | 'fail';

export interface Finding {
  /** What was looked at: `redis`, `upstream ghcr.io`. */
  readonly check: string;
  readonly verdict: Verdict;
  /** What was found. Never a secret. */
  readonly message: string;
  /** What to do about it. */
  readonly advice?: string;
}

export interface Check {
  readonly name: string;
  /** Default: five seconds. */
  readonly limitMs?: number;
  /** Tells what it finds as it finds it. What it throws is a fault that it did not think of. */
  run(tell: Tell, signal: AbortSignal): Promise<void>;
}

export interface Tell {
  ok(message: string): void;
  warn(message: string, advice: string): void;
  fail(message: string, advice: string): void;
}

/** For one check, whatever it waits for. */
const usualLimitMs = 5_000;

/** All checks at once, each for its time at most; what they found, in their order. */
export async function runChecks(checks: readonly Check[], signal: AbortSignal): Promise<Finding[]> {
  const found = await Promise.all(checks.map((check) => runCheck(check, signal)));
  signal.throwIfAborted();
  return found.flat();
}

async function runCheck(
  { name, limitMs = usualLimitMs, run }: Check,
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  let over = false;
  const add = (verdict: Verdict, message: string, advice?: string): void => {
    if (!over) findings.push({ check: name, verdict, message, ...(advice === undefined ? {} : { advice }) });
  };
  const tell: Tell = {
    ok: (message) => add('ok', message),
    warn: (message, advice) => add('warn', message, advice),
    fail: (message, advice) => add('fail', message, advice),
  };
  const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  try {
    await waitFor(run(tell, limit), limit);
  } catch (error) {
    if (limit.aborted)
      tell.fail(`no answer within ${limitMs / 1000} s`, 'see whether a firewall swallows packets');
    else tell.fail(error instanceof Error ? error.message : String(error), 'this is not expected: report it');
  } finally {
    over = true;
  }
  return findings;
}

/** The system's or the library's own name for what went wrong, else its message. */
export function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  if (typeof code === 'string') return code;
  return error.cause === undefined ? error.message : codeOf(error.cause);
}

/** What fails is told by the checks. */
export const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
