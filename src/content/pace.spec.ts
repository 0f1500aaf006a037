import { describe, expect, it } from 'vitest';
import { Pace } from './pace.js';

class Clock {
  seconds = 100;
  readonly now = () => this.seconds;
  readonly wait = (ms: number) => {
    this.seconds += ms / 1000;
    return Promise.resolve();
  };
}

const signal = new AbortController().signal;

describe('Pace', () => {
  it('holds small pieces to the rate', async () => {
    const clock = new Clock();
    const pace = new Pace(1000, clock.now, clock.wait);
    for (let done = 0; done < 10_000; done += 10) await pace.after(10, signal);
    expect(clock.seconds - 100).toBeCloseTo(10, 1);
  });

  it('holds a piece that is larger than a second allows', async () => {
    const clock = new Clock();
    const pace = new Pace(1000, clock.now, clock.wait);
    await pace.after(5000, signal);
    expect(clock.seconds - 100).toBeCloseTo(5, 1);
  });

  it('saves little up while nothing is done', async () => {
    const clock = new Clock();
    const pace = new Pace(1000, clock.now, clock.wait);
    clock.seconds += 3600;
    const began = clock.seconds;
    await pace.after(2000, signal);
    expect(clock.seconds - began).toBeGreaterThan(1.7);
  });

  it('never waits without a rate', async () => {
    const clock = new Clock();
    const pace = new Pace(Infinity, clock.now, () => Promise.reject(new Error('waited')));
    await pace.after(2 ** 40, signal);
    expect(clock.seconds).toBe(100);
  });

  it('ends with what its signal was aborted with', async () => {
    const controller = new AbortController();
    const pace = new Pace(1);
    const waiting = pace.after(1000, controller.signal);
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    await expect(pace.after(1, controller.signal)).rejects.toBe(reason);
  });
});
