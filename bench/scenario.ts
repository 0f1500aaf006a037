import type { Lab } from './lab.js';

/** One file in scenarios/ each. */
export interface Scenario {
  /** For `--only`. */
  readonly name: string;
  run(lab: Lab): Promise<Measure[]>;
}

/** A row of the table: the same quantity of both servers, one value for each turn. */
export interface Measure {
  readonly title: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  /** Too much for the README's table. */
  readonly detail?: boolean;
  readonly peer: readonly number[];
  readonly cistern: readonly number[];
}

/**
 * The two that are compared, in the order of their turns: Cistern, and what it is compared with. That is the registry,
 * or Cistern as it was before.
 */
export const sides = ['peer', 'cistern'] as const;
export type Side = (typeof sides)[number];

/** Gives each side its turn, round after round, so that whatever disturbs the machine disturbs both. */
export async function byTurns<T>(
  rounds: number,
  turn: (side: Side, round: number) => Promise<T>,
): Promise<Record<Side, T[]>> {
  const results: Record<Side, T[]> = { peer: [], cistern: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const side of sides) results[side].push(await turn(side, round));
  }
  return results;
}

/** A measure from results of turns. */
export function measureOf<T>(
  description: Pick<Measure, 'title' | 'unit' | 'better' | 'detail'>,
  results: Record<Side, T[]>,
  value: (result: T) => number,
): Measure {
  return {
    ...description,
    peer: results.peer.map((result) => value(result)),
    cistern: results.cistern.map((result) => value(result)),
  };
}
