/** Numbers from 0 to below 1: the same seed gives the same numbers. */
export type Random = () => number;

export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A random item. Throws RangeError if there is none. */
export function pick<T>(random: Random, items: readonly T[]): T {
  const index = Math.floor(random() * items.length);
  if (items.length === 0) throw new RangeError('there is nothing to pick from');
  return items[index] as T;
}

/** A whole number from `least` to below `most`. */
export function between(random: Random, least: number, most: number): number {
  return least + Math.floor(random() * (most - least));
}
