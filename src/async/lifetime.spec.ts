import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Lifetime } from './lifetime.js';

const hourMs = 3_600_000;

describe('Lifetime', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('is over after its time', () => {
    const lifetime = new Lifetime(1_000);
    vi.advanceTimersByTime(999);
    expect(lifetime.isOver).toBe(false);
    vi.advanceTimersByTime(1);
    expect(lifetime.isOver).toBe(true);
  });

  it('is over after its time even if the wall clock has stepped back', () => {
    const lifetime = new Lifetime(1_000);
    vi.setSystemTime(Date.now() - hourMs);
    expect(lifetime.isOver).toBe(false);
    vi.advanceTimersByTime(1_000);
    expect(lifetime.isOver).toBe(true);
  });

  it('is over when the machine has slept for longer', () => {
    const lifetime = new Lifetime(1_000);
    vi.setSystemTime(Date.now() + hourMs); // and the monotonic clock stood still
    expect(lifetime.isOver).toBe(true);
  });

  it('is over at once if its time is zero or negative', () => {
    expect(new Lifetime(0).isOver).toBe(true);
    expect(new Lifetime(-1).isOver).toBe(true);
  });
});
