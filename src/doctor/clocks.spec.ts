import { describe, expect, it } from 'vitest';
import { runChecks } from './check.js';
import { Clocks } from './clocks.js';

async function said(aheadMs: Readonly<Record<string, number>>): Promise<string[]> {
  const clocks = new Clocks();
  for (const [who, ms] of Object.entries(aheadMs)) clocks.note(who, Date.now() - ms, 1_000);
  const findings = await runChecks([clocks.check()], AbortSignal.timeout(1_000));
  return findings.map(({ verdict, message, advice }) => `${verdict} ${message}; ${advice ?? ''}`);
}

describe('the clock', () => {
  it('is compared with all that tell theirs', async () => {
    expect(await said({})).toEqual(['ok nobody could be asked for another; ']);
    expect(await said({ redis: 400, 'ghcr.io': -900 })).toEqual(['ok agrees with ghcr.io, redis; ']);
  });

  it('is off when most of the others say so, a little or much', async () => {
    expect(await said({ redis: 10_000, 'ghcr.io': 10_500 })).toEqual([
      expect.stringMatching(
        /^warn the clock here is 1[01] s ahead of that of ghcr\.io; set the clock of this machine/,
      ),
      expect.stringMatching(
        /^warn the clock here is 10 s ahead of that of redis; set the clock of this machine/,
      ),
    ]);
    expect(await said({ redis: -3_600_000 })).toEqual([
      expect.stringMatching(
        /^fail the clock here is 3600 s behind that of redis; set the clock of this machine/,
      ),
    ]);
  });

  it('is right when one alone disagrees', async () => {
    expect(await said({ redis: 0, 'ghcr.io': 0, 'quay.io': 600_000 })).toEqual([
      expect.stringMatching(/^fail .* that of quay\.io; set the clock of quay\.io: most others agree/),
    ]);
  });

  it('ignores what is no time', async () => {
    const clocks = new Clocks();
    clocks.noteDate('a', 'yesterday');
    clocks.noteDate('b', undefined);
    expect(await runChecks([clocks.check()], AbortSignal.timeout(1_000))).toMatchObject([{ verdict: 'ok' }]);
  });
});
