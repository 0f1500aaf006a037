import { describe, expect, it } from 'vitest';
import { runChecks, type Check } from './check.js';

const never = AbortSignal.any([]);

describe('checks', () => {
  it('run side by side, and their findings keep the order of the checks', async () => {
    const gate = Promise.withResolvers<void>();
    const slow: Check = {
      name: 'slow',
      run: async (tell) => {
        await gate.promise;
        tell.ok('done');
      },
    };
    const quick: Check = {
      name: 'quick',
      run: (tell) => {
        gate.resolve(); // which the one before it waits for
        tell.warn('so so', 'do it');
        return Promise.resolve();
      },
    };
    expect(await runChecks([slow, quick], never)).toEqual([
      { check: 'slow', verdict: 'ok', message: 'done' },
      { check: 'quick', verdict: 'warn', message: 'so so', advice: 'do it' },
    ]);
  });

  it('that give no answer are given up, keep what they found, and are heard no more', async () => {
    const gate = Promise.withResolvers<void>();
    const silent: Check = {
      name: 'silent',
      limitMs: 1,
      run: async (tell) => {
        tell.ok('begun');
        await gate.promise;
        tell.ok('too late');
      },
    };
    const findings = await runChecks([silent], never);
    gate.resolve();
    await gate.promise;
    expect(findings).toMatchObject([
      { verdict: 'ok', message: 'begun' },
      { verdict: 'fail', message: 'no answer within 0.001 s' },
    ]);
  });

  it('that fail in a way that nobody thought of are a fault by themselves', async () => {
    const broken: Check = { name: 'broken', run: () => Promise.reject(new Error('odd')) };
    expect(await runChecks([broken], never)).toMatchObject([
      { check: 'broken', verdict: 'fail', message: 'odd' },
    ]);
  });

  it('end with whoever asked for them', async () => {
    const endless: Check = { name: 'endless', run: () => Promise.withResolvers<void>().promise };
    const reason = new Error('gone');
    await expect(runChecks([endless], AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});
