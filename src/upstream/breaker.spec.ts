import { describe, expect, it } from 'vitest';
import { Breaker, type Pass, type Verdict } from './breaker.js';
import type { BreakerState } from './observer.js';

function start(): {
  breaker: Breaker;
  states: BreakerState[];
  pass: (ms: number) => void;
  request: (verdict: Verdict) => boolean;
} {
  let time = 0;
  const states: BreakerState[] = [];
  const breaker = new Breaker(
    () => time,
    (state) => states.push(state),
  );
  const request = (verdict: Verdict): boolean => {
    const entered = breaker.enter();
    if (entered !== undefined) breaker.settle(entered, verdict);
    return entered !== undefined;
  };
  return { breaker, states, pass: (ms) => (time += ms), request };
}

function entered(breaker: Breaker): Pass {
  const pass = breaker.enter();
  if (pass === undefined) throw new Error('not let through');
  return pass;
}

describe('the breaker', () => {
  it('opens after five troubles in a row', () => {
    const { breaker, request } = start();
    for (let i = 0; i < 4; i += 1) request('trouble');
    expect(breaker.state).toBe('closed');
    request('trouble');
    expect(breaker.state).toBe('open');
    expect(request('alive')).toBe(false);
  });

  it('starts counting again after an answer', () => {
    const { breaker, request } = start();
    for (let i = 0; i < 4; i += 1) request('trouble');
    request('alive');
    for (let i = 0; i < 4; i += 1) request('trouble');
    expect(breaker.state).toBe('closed');
  });

  it('does not count requests that were given up', () => {
    const { breaker, request } = start();
    for (let i = 0; i < 4; i += 1) request('trouble');
    for (let i = 0; i < 10; i += 1) request('unknown');
    expect(breaker.state).toBe('closed');
    request('trouble');
    expect(breaker.state).toBe('open');
  });

  it('lets one request through after 10 s, and closes when that is answered', () => {
    const { breaker, states, pass, request } = start();
    for (let i = 0; i < 5; i += 1) request('trouble');
    pass(9999);
    expect(breaker.enter()).toBeUndefined();
    pass(1);
    const probe = entered(breaker);
    expect(breaker.enter()).toBeUndefined();
    breaker.settle(probe, 'alive');
    expect(request('alive')).toBe(true);
    expect(states).toEqual(['open', 'half-open', 'closed']);
  });

  it('doubles the pause with each probe that fails, up to 60 s, and starts anew when closed', () => {
    const { breaker, pass, request } = start();
    for (let i = 0; i < 5; i += 1) request('trouble');
    pass(10_000);
    for (const pause of [20_000, 40_000, 60_000, 60_000]) {
      expect(request('trouble')).toBe(true);
      pass(pause - 1);
      expect(breaker.enter()).toBeUndefined();
      pass(1);
    }
    expect(request('alive')).toBe(true);
    for (let i = 0; i < 5; i += 1) request('trouble');
    pass(10_000);
    expect(request('alive')).toBe(true);
  });

  it('lets the next request probe when the probe was given up', () => {
    const { breaker, pass, request } = start();
    for (let i = 0; i < 5; i += 1) request('trouble');
    pass(10_000);
    expect(request('unknown')).toBe(true);
    expect(breaker.state).toBe('open');
    expect(request('alive')).toBe(true);
    expect(breaker.state).toBe('closed');
  });

  it('is not kept open by requests from before it opened', () => {
    const { breaker, pass, request } = start();
    const late = entered(breaker);
    for (let i = 0; i < 5; i += 1) request('trouble');
    pass(10_000);
    const probe = entered(breaker);
    breaker.settle(late, 'trouble');
    expect(breaker.state).toBe('half-open');
    breaker.settle(probe, 'alive');
    expect(breaker.state).toBe('closed');
  });
});
