import { describe, expect, it, vi } from 'vitest';
import { Deletion } from './deletion.js';

const graceMs = 900_000;

describe('content', () => {
  const memory = (ms: number | undefined) => ({ memoryMs: vi.fn(() => Promise.resolve(ms)) });

  const told = { unknown: () => Promise.resolve(undefined) };

  it('may be deleted without Redis, and with one that has kept its memory for a grace', async () => {
    for (const ms of [Number.POSITIVE_INFINITY, graceMs]) {
      expect(await new Deletion(true, graceMs, memory(ms), told).allowed()).toBe(true);
    }
  });

  it('may not while Redis cannot be asked, or was empty less than a grace ago', async () => {
    for (const ms of [undefined, 0, graceMs - 1]) {
      expect(await new Deletion(true, graceMs, memory(ms), told).allowed()).toBe(false);
    }
  });

  it('may never where nothing is to be deleted', async () => {
    const cluster = memory(Number.POSITIVE_INFINITY);
    expect(await new Deletion(false, graceMs, cluster, told).allowed()).toBe(false);
    expect(cluster.memoryMs).not.toHaveBeenCalled();
  });

  it('may not before somebody has told what runs', async () => {
    const untold = {
      unknown: () => Promise.resolve('what runs is not known yet, which scheduler.inuse keeps'),
    };
    const deletion = new Deletion(true, graceMs, memory(graceMs), untold);
    expect(await deletion.obstacle()).toContain('scheduler.inuse');
  });

  it('has a reason to stay that operators understand', async () => {
    const reasons = [undefined, 0, graceMs].map((ms) =>
      new Deletion(true, graceMs, memory(ms), told).obstacle(),
    );
    expect(await Promise.all(reasons)).toEqual([
      expect.stringContaining('cannot be asked'),
      expect.stringContaining('scheduler.grace'),
      undefined,
    ]);
    expect(await new Deletion(false, graceMs, memory(graceMs), told).obstacle()).toContain(
      'storage.delete.enabled',
    );
  });
});
