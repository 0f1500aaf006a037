import { describe, expect, it } from 'vitest';
import { budgetLedgerContract } from '../../test/contracts/budget-ledger.js';
import { budgetOf, LocalBudgetLedger } from './rate-budget.js';

budgetLedgerContract('in this process', () => {
  let now = 1_000;
  return {
    ledger: new LocalBudgetLedger(() => now),
    pass: (ms) => {
      now += ms;
      return Promise.resolve();
    },
  };
});

describe('how long tags are served without asking', () => {
  const view = (remaining: number, limit = 100) => ({
    limit,
    remaining,
    windowSeconds: 60,
    blockedMs: 0,
  });

  it.each([
    [100, 1],
    [50, 1],
    [49, 2],
    [20, 2],
    [19, 10],
    [0, 10],
  ])('with %i of 100 pulls left: %i times as long', (remaining, freshnessFactor) => {
    expect(budgetOf([view(remaining)])).toMatchObject({ remaining, limit: 100, freshnessFactor });
  });

  it('counts all credentials together', () => {
    expect(budgetOf([view(0), view(100), undefined])).toMatchObject({
      remaining: 100,
      limit: 200,
      freshnessFactor: 1,
    });
  });

  it('says nothing where no limit is known', () => {
    expect(budgetOf([])).toBeUndefined();
    expect(
      budgetOf([{ limit: undefined, remaining: undefined, windowSeconds: undefined, blockedMs: 0 }]),
    ).toBeUndefined();
  });
});
