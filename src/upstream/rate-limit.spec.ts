import { describe, expect, it } from 'vitest';
import { readRateLimit, readRetryAfter } from './rate-limit.js';

describe('the pull limit', () => {
  it.each([
    ['100;w=21600', '76;w=21600', { limit: 100, remaining: 76, windowSeconds: 21_600 }],
    [' 200 ; w=3600', '0', { limit: 200, remaining: 0, windowSeconds: 3600 }],
    ['5', '4', { limit: 5, remaining: 4, windowSeconds: undefined }],
  ])('is read from %o and %o', (limit, remaining, expected) => {
    const headers = { 'ratelimit-limit': limit, 'ratelimit-remaining': remaining };
    expect(readRateLimit(headers)).toEqual(expected);
  });

  it.each([
    [{}],
    [{ 'ratelimit-limit': '100' }],
    [{ 'ratelimit-limit': 'many', 'ratelimit-remaining': '-1' }],
  ])('is not seen in %o', (headers) => {
    expect(readRateLimit(headers)).toBeUndefined();
  });
});

describe('Retry-After', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  it.each([
    ['seconds', '30', 30_000],
    ['a date', 'Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
    ['a date that is past', 'Wed, 31 Dec 2025 00:00:00 GMT', 0],
    ['more than a day', '9999999999', 86_400_000],
    ['what is neither', 'soon', undefined],
    ['a negative number', '-', undefined],
    ['nothing', undefined, undefined],
  ])('as %s', (_, header, expected) => {
    expect(readRetryAfter(header, now)).toBe(expected);
  });
});
