import { describe, expect, it } from 'vitest';
import type { Account, BudgetLedger, Entry, Said } from '../../src/upstream/rate-budget.js';

/** A ledger and a way to let its time pass. */
export interface LedgerUnderTest {
  readonly ledger: BudgetLedger;
  pass(ms: number): Promise<void>;
}

let accounts = 0;

/** What every BudgetLedger does. */
export function budgetLedgerContract(name: string, make: () => LedgerUnderTest): void {
  describe(`${name}: a budget`, () => {
    const fresh = (): Account => ({ host: 'docker.test', username: `user ${(accounts += 1)}` });
    const told = (remaining: number): Said => ({
      how: 'told',
      limit: 10,
      remaining,
      windowSeconds: 60,
      pauseMs: 200,
    });
    const refused: Said = { how: 'refused', pauseMs: 200 };
    const entryOf = async (ledger: BudgetLedger, account: Account, counted = true): Promise<Entry> => {
      const { entry } = await ledger.enter(account, counted);
      if (entry === undefined) throw new Error('refused');
      return entry;
    };

    it('is not known before the upstream has said something', async () => {
      const { ledger } = make();
      const account = fresh();
      const { entry, view } = await ledger.enter(account, true);
      expect(entry).toBeDefined();
      expect(view).toMatchObject({ limit: undefined, remaining: undefined, blockedMs: 0 });
      if (entry !== undefined) await ledger.leave(account, entry, { how: 'silent', pauseMs: 0 });
      expect((await ledger.enter(account, true)).view.limit).toBeUndefined();
    });

    it('lets no more requests through than are left, those on their way counted', async () => {
      const { ledger, pass } = make();
      const account = fresh();
      await ledger.leave(account, await entryOf(ledger, account), told(3));
      await pass(2);
      const entries = await Promise.all(Array.from({ length: 10 }, () => ledger.enter(account, true)));
      expect(entries.filter(({ entry }) => entry !== undefined)).toHaveLength(3);
      // What is not a pull is not counted.
      expect((await ledger.enter(account, false)).entry).toBeDefined();
      for (const { entry } of entries) {
        if (entry !== undefined) await ledger.leave(account, entry, { how: 'lost', pauseMs: 0 });
      }
      expect((await ledger.enter(account, true)).entry).toBeDefined();
    });

    it('is told by an answer of before only to have less', async () => {
      const { ledger, pass } = make();
      const account = fresh();
      await ledger.leave(account, await entryOf(ledger, account), told(9));
      await pass(2);
      const slow = await entryOf(ledger, account);
      const quick = await entryOf(ledger, account);
      await pass(2);
      expect(await ledger.leave(account, quick, told(7))).toMatchObject({ limit: 10, remaining: 6 });
      await pass(2);
      expect(await ledger.leave(account, slow, told(8))).toMatchObject({ remaining: 7 });
      await pass(2);
      expect(await ledger.leave(account, await entryOf(ledger, account), told(10))).toMatchObject({
        remaining: 10,
      });
    });

    it.each([
      ['used up', told(0)],
      ['refused', refused],
    ])('that is %s is left alone, then tried by one', async (_, said) => {
      const { ledger, pass } = make();
      const account = fresh();
      const left = await ledger.leave(account, await entryOf(ledger, account), said);
      expect(left.blockedMs).toBeGreaterThan(0);
      for (const counted of [true, false]) {
        const { entry, view } = await ledger.enter(account, counted);
        expect(entry).toBeUndefined();
        expect(view).toMatchObject({ remaining: 0 });
        expect(view.blockedMs).toBeGreaterThan(0);
        expect(view.blockedMs).toBeLessThanOrEqual(200);
      }
      await pass(250);
      const tries = await Promise.all([1, 2, 3].map(() => ledger.enter(account, true)));
      const probes = tries.flatMap(({ entry }) => (entry === undefined ? [] : [entry]));
      expect(probes).toHaveLength(1);
      for (const probe of probes) {
        expect(await ledger.leave(account, probe, told(10))).toMatchObject({ remaining: 10, blockedMs: 0 });
      }
      expect((await ledger.enter(account, true)).entry).toBeDefined();
    });

    it('that was refused without a limit is forgotten by an answer', async () => {
      const { ledger, pass } = make();
      const account = fresh();
      await ledger.leave(account, await entryOf(ledger, account), refused);
      await pass(250);
      const probe = await entryOf(ledger, account);
      const silent: Said = { how: 'silent', pauseMs: 0 };
      expect(await ledger.leave(account, probe, silent)).toMatchObject({
        remaining: undefined,
        blockedMs: 0,
      });
      expect((await ledger.enter(account, true)).entry).toBeDefined();
    });

    it('is that of one account', async () => {
      const { ledger } = make();
      const [one, other] = [fresh(), fresh()];
      await ledger.leave(one, await entryOf(ledger, one), told(0));
      expect((await ledger.enter(one, true)).entry).toBeUndefined();
      expect((await ledger.enter(other, true)).entry).toBeDefined();
    });
  });
}
