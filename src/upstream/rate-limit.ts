import type { IncomingHttpHeaders } from 'node:http';

/** Pulls that an upstream allows in its window. */
export interface RateLimit {
  readonly limit: number;
  readonly remaining: number;
  readonly windowSeconds: number | undefined;
}

const form = /^[ \t]*(\d{1,9})(?:[ \t]*;[ \t]*w=(\d{1,9}))?/;

/** Docker Hub's `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`. No headers: no limit. */
export function readRateLimit(headers: IncomingHttpHeaders): RateLimit | undefined {
  const limit = readValue(headers['ratelimit-limit']);
  const remaining = readValue(headers['ratelimit-remaining']);
  if (limit === undefined || remaining === undefined) return undefined;
  return {
    limit: limit.count,
    remaining: remaining.count,
    windowSeconds: remaining.window ?? limit.window,
  };
}

function readValue(
  header: string | string[] | undefined,
): { count: number; window: number | undefined } | undefined {
  const match = form.exec(typeof header === 'string' ? header : '');
  if (match === null) return undefined;
  return { count: Number(match[1]), window: match[2] === undefined ? undefined : Number(match[2]) };
}

const longestRetryMs = 24 * 60 * 60 * 1000;

/** `Retry-After` (RFC 9110 §10.2.3), seconds or a date, as milliseconds from `now`: from 0 to a day. */
export function readRetryAfter(header: string | string[] | undefined, now: number): number | undefined {
  if (typeof header !== 'string') return undefined;
  const text = header.trim();
  const ms = /^\d{1,10}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), longestRetryMs);
}
