import { describe, expect, it } from 'vitest';
import { agreed, type Comparison, judge, leastRounds } from '../../bench/verdict.js';

const rounds = 12;
const runs = 5_000;

/** A small generator of random numbers between 0 and 1, so that each run of the tests is the same. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Two builds on a machine that others use: rounds differ by half from each other, turns of a round by a tenth, and one
 * turn in twenty takes up to twenty times as long.
 */
function measured(random: () => number, effect: number, better: Comparison['better'] = 'more'): Comparison {
  const turns = Array.from({ length: rounds }, () => {
    const round = 1_000 * (0.5 + random());
    const turn = (): number =>
      round * (0.9 + 0.2 * random()) * (random() < 0.05 ? 1 / (1 + 19 * random()) : 1);
    return { base: turn(), changed: turn() * effect };
  });
  return {
    title: 'GET',
    unit: 'requests/s',
    better,
    base: turns.map(({ base }) => base),
    changed: turns.map(({ changed }) => changed),
  };
}

function share(effect: number, wanted: string): number {
  const random = randomNumbers(1);
  const look = () => judge(measured(random, effect));
  const found = Array.from({ length: runs }, () => agreed(look(), look()));
  return found.filter((verdict) => verdict === wanted).length / runs;
}

describe('the verdict on two builds', () => {
  it('is “within the noise” for equal ones, but for 1 in 500, on a machine that others use', () => {
    expect(share(1, 'within the noise')).toBeGreaterThan(0.998);
  });

  it('finds a build that does a third less, or more, in nearly all cases there', () => {
    expect(share(0.67, 'worse')).toBeGreaterThan(0.9);
    expect(share(1.5, 'better')).toBeGreaterThan(0.9);
  });

  it('never takes the one for the other', () => {
    expect(share(0.67, 'better')).toBe(0);
    expect(share(1.5, 'worse')).toBe(0);
  });

  it('turns round where less is better', () => {
    const random = randomNumbers(2);
    const base = Array.from({ length: rounds }, () => 100 + random());
    const comparison = { title: 'time', unit: 's', base, changed: base.map((value) => value * 1.2) };
    expect(judge({ ...comparison, better: 'less' })).toBe('worse');
    expect(judge({ ...comparison, better: 'more' })).toBe('better');
  });

  it('has no word for a difference of less than 3 %, however sure', () => {
    const base = Array.from({ length: rounds }, (_, round) => 100 + round);
    const by = (factor: number) => ({
      title: 'GET',
      unit: '',
      better: 'more' as const,
      base,
      changed: base.map((value) => value * factor),
    });
    expect(judge(by(0.98))).toBe('within the noise');
    expect(judge(by(0.96))).toBe('worse');
  });

  it('needs as many rounds as it says', () => {
    const of = (count: number) => ({
      title: 'GET',
      unit: '',
      better: 'more' as const,
      base: Array.from({ length: count }, () => 100),
      changed: Array.from({ length: count }, () => 50),
    });
    expect(judge(of(leastRounds))).toBe('worse');
    expect(judge(of(leastRounds - 1))).toBe('within the noise');
  });

  it('judges counts, which have no noise at all', () => {
    const counts = { title: 'upstream GETs', unit: '', better: 'less' as const };
    const ones = Array.from({ length: rounds }, () => 1);
    expect(judge({ ...counts, base: ones, changed: ones })).toBe('within the noise');
    expect(judge({ ...counts, base: ones, changed: ones.map(() => 2) })).toBe('worse');
  });
});
