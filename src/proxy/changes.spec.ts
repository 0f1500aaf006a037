import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Changes } from './changes.js';

describe('readers of a transfer', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const never = new AbortController().signal;

  /** A spool that grows, and how many of its readers have been woken. */
  function readers(count: number) {
    const spool = { length: 0 };
    const changes = new Changes(spool);
    let woken = 0;
    const wait = (): void => {
      for (let n = 0; n < count; n += 1) void changes.next(never).then(() => (woken += 1));
    };
    const grow = (bytes: number): void => {
      spool.length += bytes;
      changes.tellGrowth();
    };
    const after = async (ms: number): Promise<number> => {
      await vi.advanceTimersByTimeAsync(ms);
      return woken;
    };
    return { changes, wait, grow, after };
  }

  it('are told of the first bytes at once, however many they are', async () => {
    const { wait, grow, after } = readers(25);
    wait();
    grow(1);
    expect(await after(0)).toBe(25);
  });

  it('that are few are told of each 256 KiB at once, of less within 10 ms', async () => {
    const { wait, grow, after } = readers(4);
    grow(1);
    wait();
    grow(256 * 1024);
    expect(await after(0)).toBe(4);
    wait();
    grow(1);
    expect(await after(9)).toBe(4);
    expect(await after(1)).toBe(8);
  });

  it('that are many are told of each 256 KiB at once, of less within 50 ms', async () => {
    const { wait, grow, after } = readers(5);
    grow(1);
    wait();
    grow(256 * 1024);
    expect(await after(0)).toBe(5);
    wait();
    grow(255 * 1024);
    expect(await after(49)).toBe(5);
    expect(await after(1)).toBe(10);
  });

  it('that feed others are told like few, however many wait', async () => {
    const { changes, wait, grow } = readers(25);
    grow(1);
    wait();
    let woken = 0;
    for (let n = 0; n < 7; n += 1) void changes.nextWithin(1_000, never).then(() => (woken += 1));
    grow(1);
    await vi.advanceTimersByTimeAsync(10);
    expect(woken).toBe(7);
  });

  it('that feed others hear of it within the time that they gave, whatever happens', async () => {
    const { changes } = readers(0);
    let woken = 0;
    void changes.nextWithin(1_000, never).then(() => (woken += 1));
    await vi.advanceTimersByTimeAsync(999);
    expect(woken).toBe(0);
    await vi.advanceTimersByTimeAsync(1);
    expect(woken).toBe(1);
  });

  it('are told of the end at once', async () => {
    const { changes, wait, grow, after } = readers(25);
    grow(1);
    wait();
    grow(1);
    changes.tell();
    expect(await after(0)).toBe(25);
  });
});
