import { describe, expect, it } from 'vitest';
import { chanceOfRise, ratiosOf, summarize } from '../../bench/statistics.js';

describe('a summary', () => {
  it('is the median and both ends', () => {
    expect(summarize([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
    expect(summarize([4, 1, 2, 10])).toEqual({ median: 3, min: 1, max: 10 });
  });
});

describe('ratios', () => {
  it('are of the two turns of each round, whatever the rounds are like', () => {
    expect(ratiosOf([2, 20, 200], [1, 10, 100])).toEqual([2, 2, 2]);
  });

  it('are 1 where both are nothing', () => {
    expect(ratiosOf([0, 1], [0, 0])).toEqual([1, Infinity]);
  });
});

describe('the chance of a rise by chance', () => {
  it('is 1 in 2 to the number of rounds where all of them rose', () => {
    expect(chanceOfRise(8, 0)).toBe(1 / 256);
  });

  it('counts all ways in which as many rise, or more', () => {
    expect(chanceOfRise(7, 1)).toBe((1 + 8) / 256);
    expect(chanceOfRise(10, 2)).toBe((1 + 12 + 66) / 4096);
  });

  it('is certain where nothing changed, or nothing rose', () => {
    expect(chanceOfRise(0, 0)).toBe(1);
    expect(chanceOfRise(0, 5)).toBe(1);
  });
});
