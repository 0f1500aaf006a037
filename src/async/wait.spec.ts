import { describe, expect, it } from 'vitest';
import { pause, settled, waitFor, within } from './wait.js';

/** Collects rejections that reach the process without a handler while `run` works. */
async function unhandledDuring(run: () => Promise<void>): Promise<unknown[]> {
  const unhandled: unknown[] = [];
  const listeners = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (reason) => unhandled.push(reason));
  try {
    await run();
    await new Promise((resolve) => setImmediate(resolve));
  } finally {
    process.removeAllListeners('unhandledRejection');
    for (const listener of listeners) process.on('unhandledRejection', listener);
  }
  return unhandled;
}

describe('waitFor', () => {
  it('settles as the work does', async () => {
    const { signal } = new AbortController();
    await expect(waitFor(Promise.resolve(7), signal)).resolves.toBe(7);
    await expect(waitFor(Promise.reject(new Error('broken')), signal)).rejects.toThrow('broken');
  });

  it('rejects with the reason when the signal aborts first', async () => {
    const waiter = new AbortController();
    const waiting = waitFor(new Promise(() => undefined), waiter.signal);
    waiter.abort(new Error('left'));
    await expect(waiting).rejects.toThrow('left');
  });

  it.each(['before', 'while'] as const)(
    'handles the rejection of work whose waiter leaves %s it waits',
    async (when) => {
      const unhandled = await unhandledDuring(async () => {
        const work = Promise.withResolvers<never>();
        const waiter = new AbortController();
        if (when === 'before') waiter.abort(new Error('left'));
        const waiting = waitFor(work.promise, waiter.signal);
        if (when === 'while') waiter.abort(new Error('left'));
        await expect(waiting).rejects.toThrow('left');
        work.reject(new Error('not found'));
      });
      expect(unhandled).toEqual([]);
    },
  );
});

describe('within', () => {
  it('rejects work that takes too long, and handles its later rejection', async () => {
    const unhandled = await unhandledDuring(async () => {
      const work = Promise.withResolvers<never>();
      await expect(within(work.promise, 1, () => new Error('late'))).rejects.toThrow('late');
      work.reject(new Error('broken'));
    });
    expect(unhandled).toEqual([]);
  });
});

describe('settled', () => {
  it('resolves when all work has settled, also by rejection', async () => {
    const { signal } = new AbortController();
    const work = [Promise.resolve(), Promise.reject(new Error('broken'))];
    await expect(settled(work, signal)).resolves.toBeUndefined();
  });

  it('resolves when the signal aborts first', async () => {
    const never = new Promise(() => undefined);
    await expect(settled([never], AbortSignal.abort())).resolves.toBeUndefined();
  });
});

describe('pause', () => {
  it('ends when the signal aborts', async () => {
    const stop = new AbortController();
    const paused = pause(1_000_000, stop.signal);
    stop.abort();
    await expect(paused).resolves.toBeUndefined();
  });
});
