import { describe, expect, it } from 'vitest';
import { ByteBudget, NoRoom } from './byte-budget.js';

const patient = new AbortController().signal;

describe('a budget of bytes', () => {
  it('lets a body in when another one gives its bytes back, in their order', async () => {
    const budget = new ByteBudget(20, 60_000);
    const first = budget.open('a');
    await first.grow(8, patient);
    const order: string[] = [];
    const large = budget.take('a', 10, patient).then(() => order.push('large'));
    const small = budget.take('a', 1, patient).then(() => order.push('small'));
    expect(budget.tryTake('a', 1)).toBe(false);
    first[Symbol.dispose]();
    await large;
    expect(budget.held).toBe(10);
    budget.give('a', 10);
    await small;
    expect(order).toEqual(['large', 'small']);
    expect(budget.held).toBe(1);
  });

  it('refuses a body that gets no room in time, and lets a smaller one in', async () => {
    const budget = new ByteBudget(20, 1);
    await budget.take('a', 8, patient);
    const large = budget.take('a', 9, patient);
    await expect(large).rejects.toBeInstanceOf(NoRoom);
    await budget.take('a', 2, patient);
    expect(budget.held).toBe(10);
  });

  it('leaves room for the bodies of another source, also while one waits', async () => {
    const budget = new ByteBudget(20, 60_000);
    await budget.take('a', 10, patient);
    const waiting = budget.take('a', 1, patient);
    expect(budget.tryTake('b', 5)).toBe(true);
    expect(budget.tryTake('b', 1)).toBe(false);
    budget.give('a', 10);
    await waiting;
    expect(budget.held).toBe(6);
  });

  it('rejects with the reason of a signal that aborts, and holds nothing then', async () => {
    const budget = new ByteBudget(20, 60_000);
    await budget.take('a', 10, patient);
    const leaving = new AbortController();
    const waiting = budget.take('a', 1, leaving.signal);
    leaving.abort(new Error('the client left'));
    await expect(waiting).rejects.toThrow('the client left');
    await expect(budget.take('a', 1, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
    budget.give('a', 10);
    expect(budget.held).toBe(0);
  });

  it('gives back what a holding has once, however often it is disposed', async () => {
    const budget = new ByteBudget(20, 60_000);
    const holding = budget.open('a');
    await holding.grow(3, patient);
    expect(holding.tryGrow(4)).toBe(true);
    holding[Symbol.dispose]();
    holding[Symbol.dispose]();
    expect(budget.held).toBe(0);
  });
});
