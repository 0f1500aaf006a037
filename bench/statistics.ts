export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Of at least one value. */
export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
  };
}

/** Of each round, for what disturbs the machine disturbs both turns of a round alike. Nothing over nothing is 1. */
export function ratiosOf(values: readonly number[], bases: readonly number[]): number[] {
  return values.map((value, round) => {
    const base = bases[round] ?? Number.NaN;
    return value === base ? 1 : value / base;
  });
}

/**
 * The sign test, one-sided and exact: how likely so many of the changes rise, or more, where each rises and falls with
 * the same chance. How far they go says nothing: on a busy machine a single turn may take twenty times as long.
 */
export function chanceOfRise(risen: number, fallen: number): number {
  const count = risen + fallen;
  let chance = 0.5 ** count; // that all rise
  let sum = 0;
  for (let falls = 0; falls <= fallen; falls += 1) {
    sum += chance;
    chance *= (count - falls) / (falls + 1);
  }
  return sum;
}
