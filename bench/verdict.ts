import type { Measure } from './scenario.js';
import { chanceOfRise, ratiosOf, summarize, type Summary } from './statistics.js';

export type Verdict = 'better' | 'worse' | 'within the noise';

/** So seldom two equal builds may look different in one direction, in one look at one measure: two of 12 rounds may disagree. */
const allowedChance = 0.02;
/** A smaller difference is not worth a word, however sure it is. */
const leastEffect = 0.03;
/** With fewer, nothing is ever sure enough: all of them alike happen by chance in 1 of 2 to their number. */
export const leastRounds = Math.ceil(-Math.log2(allowedChance));

/** The same quantity of two builds, one value for each round, in which both had their turns. */
export interface Comparison extends Pick<Measure, 'title' | 'unit' | 'better'> {
  readonly base: readonly number[];
  readonly changed: readonly number[];
}

/** The change's value over the base's, round by round. */
export function effectOf({ base, changed }: Comparison): Summary {
  return summarize(ratiosOf(changed, base));
}

export function judge(comparison: Comparison): Verdict {
  const { base, changed, better } = comparison;
  if (Math.min(...base, ...changed) < 0) return 'within the noise'; // what is now ahead, now behind, has no ratio
  const ratio = effectOf(comparison).median;
  if (Math.abs(ratio - 1) < leastEffect) return 'within the noise';
  const ratios = ratiosOf(changed, base);
  const risen = ratios.filter((each) => each > 1).length;
  const fallen = ratios.filter((each) => each < 1).length;
  const chance = ratio > 1 ? chanceOfRise(risen, fallen) : chanceOfRise(fallen, risen);
  if (chance > allowedChance) return 'within the noise';
  return ratio > 1 === (better === 'more') ? 'better' : 'worse';
}

/**
 * What both looks say. Of the dozens of measures of a run one look alone would now and then call a difference what was
 * chance, or the luck of one run of processes.
 */
export function agreed(first: Verdict, second: Verdict): Verdict {
  return first === second ? first : 'within the noise';
}
