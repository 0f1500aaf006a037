import { describe, expect, it } from 'vitest';
import { fuzzed } from './properties.js';

/** `npm run fuzz` checks a million. */
const cases = 10_000;

describe('whatever a stranger sends', () => {
  it.each(fuzzed)('$name: no crash, no hang, no escape', ({ share, check }) => {
    expect(() => check((cases * share) / 1_000_000, Date.now() % 2 ** 31)).not.toThrow();
  });

  it('is a million cases in all', () => {
    expect(fuzzed.reduce((sum, { share }) => sum + share, 0)).toBe(1_000_000);
  });
});
