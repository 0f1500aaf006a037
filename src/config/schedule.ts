import { Cron } from 'croner';
import { hint, time, type Value } from './values.js';

/** The shortest interval of a job, in milliseconds. With a shorter one, the replica would do nothing else. */
const shortestMs = 1_000;

/** When a job runs. */
export type Schedule =
  | { readonly kind: 'never' }
  /** Whenever the wall clock is at a multiple of so many milliseconds since 1970. */
  | { readonly kind: 'every'; readonly ms: number }
  /** By the local time of the process (`TZ`). */
  | { readonly kind: 'cron'; readonly pattern: string };

/** Five fields, or six with seconds in front; `@daily` and the like. */
export const cronOptions = { mode: '5-or-6-parts' } as const;

export const schedule: Value<Schedule> = {
  kind: 'schedule',
  wanted: (given, fallback) => {
    const wanted = 'a duration of 1s or more such as 24h, a cron expression such as 0 3 * * *, or never';
    const meant = hint(given, fallback);
    return meant === undefined ? wanted : `${wanted} (${meant})`;
  },
  read: (given) => {
    if (given.toLowerCase() === 'never') return { kind: 'never' };
    const ms = time.read(given);
    if (ms === 0) return { kind: 'never' };
    if (ms !== undefined) return ms < shortestMs ? undefined : { kind: 'every', ms };
    return comes(given) ? { kind: 'cron', pattern: given } : undefined;
  },
};

/** Whether it is a cron expression, and one that comes: `0 0 30 2 *` never does. */
function comes(pattern: string): boolean {
  try {
    return new Cron(pattern, cronOptions).nextRun() !== null;
  } catch {
    return false; // the library says by an error that it is none
  }
}
