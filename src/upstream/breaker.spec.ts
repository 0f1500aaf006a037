import { describe, expect, it } from 'vitest';
import { Breaker, Breakers, type Outcome, type Pass, type Verdict } from './breaker.js';
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

describe('the breakers of an upstream', () => {
  function startAll() {
    let time = 0;
    const opened: string[] = [];
    const breakers = new Breakers(
      () => time,
      () => undefined,
      (repository) => opened.push(repository),
    );
    const request = (repository: string, outcome: Outcome): boolean => {
      const pass = breakers.enter(repository);
      if (pass !== undefined) breakers.settle(pass, outcome);
      return pass !== undefined;
    };
    return { breakers, opened, request, pass: (ms: number) => (time += ms) };
  }

  it('stop requests for one repository after five failures, and let others through', () => {
    const { breakers, opened, request, pass } = startAll();
    for (let i = 0; i < 5; i += 1) expect(request('strange', 'trouble')).toBe(true);
    expect(request('strange', 'alive')).toBe(false);
    expect(opened).toEqual(['strange']);
    expect(breakers.state).toBe('closed');
    expect(request('other', 'alive')).toBe(true);
    pass(10_000);
    expect(request('strange', 'trouble')).toBe(true);
    expect(request('strange', 'alive')).toBe(false);
    pass(20_000);
    expect(request('strange', 'alive')).toBe(true);
    for (let i = 0; i < 4; i += 1) request('strange', 'trouble');
    expect(request('strange', 'alive')).toBe(true);
  });

  it('stop all requests after five different repositories fail in a row', () => {
    const { breakers, request } = startAll();
    for (const repository of ['a', 'b', 'c', 'd', 'd', 'd']) request(repository, 'trouble');
    expect(breakers.state).toBe('closed');
    request('e', 'trouble');
    expect(breakers.state).toBe('open');
    expect(request('other', 'alive')).toBe(false);
  });

  it('stop all requests after five failures for different repositories that the upstream knew', () => {
    const { breakers, request } = startAll();
    const known = ['a', 'b', 'c', 'd', 'e'];
    for (const repository of known) request(repository, 'alive');
    for (const repository of known.slice(1)) request(repository, 'failure');
    expect(breakers.state).toBe('closed');
    request('a', 'failure');
    expect(breakers.state).toBe('open');
  });

  it('let requests through, however many names clients invent for which the upstream fails', () => {
    const { breakers, request } = startAll();
    for (let i = 0; i < 50; i += 1) request(`invented/${i}`, 'failure');
    expect(breakers.state).toBe('closed');
    expect(request('other', 'alive')).toBe(true);
    for (let i = 0; i < 5; i += 1) request('invented/0', 'failure');
    expect(request('invented/0', 'failure')).toBe(false);
  });

  it('stop all requests after five failed connections, for any repository', () => {
    const { breakers, request } = startAll();
    for (let i = 0; i < 5; i += 1) request('a', 'unconnected');
    expect(breakers.state).toBe('open');
  });

  it('do not spend the probe of the upstream on a repository whose own breaker is open', () => {
    const { breakers, request, pass } = startAll();
    for (let i = 0; i < 5; i += 1) request('strange', 'trouble');
    pass(5_000);
    for (let i = 0; i < 5; i += 1) request('a', 'unconnected');
    pass(10_000);
    expect(request('strange', 'trouble')).toBe(true);
    pass(20_000);
    expect(request('a', 'alive')).toBe(true);
    expect(breakers.state).toBe('closed');
  });
});
