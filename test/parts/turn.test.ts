import { expect, it } from 'vitest';
import { takeTurn } from './turn.js';

it('only one at a time has its turn at the same thing', async () => {
  const name = `turn-${process.pid}`;
  const order: string[] = [];
  const first = await takeTurn(name);
  using _other = await takeTurn(`${name}-other`);
  const both = ['second', 'third'].map(async (who) => {
    using _turn = await takeTurn(name);
    order.push(`${who} begins`);
    await Promise.resolve();
    order.push(`${who} ends`);
  });
  order.push('first ends');
  first[Symbol.dispose]();
  await Promise.all(both);
  const [winner = '', loser = ''] =
    order[1]?.startsWith('second') === true ? ['second', 'third'] : ['third', 'second'];
  const turns = [winner, loser].flatMap((who) => [`${who} begins`, `${who} ends`]);
  expect(order).toEqual(['first ends', ...turns]);
});
