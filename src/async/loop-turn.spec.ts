import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { loopTurn } from './loop-turn.js';

it('gives each caller a turn of its own, in the order of the calls', async () => {
  let turn = 0;
  const continued: (readonly [caller: number, turn: number])[] = [];
  const callers = [0, 1, 2].map((caller) => loopTurn().then(() => void continued.push([caller, turn])));
  while (continued.length < callers.length) {
    await nextTurn();
    turn += 1;
  }
  expect(continued.map(([caller]) => caller)).toEqual([0, 1, 2]);
  expect(new Set(continued.map(([, at]) => at)).size).toBe(3);
});
