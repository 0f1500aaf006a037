import { describe, expect, it } from 'vitest';
import { SharedFlight, SingleFlight } from './single-flight.js';

describe('SingleFlight', () => {
  it('starts equal work once, and again after it has ended', async () => {
    const flights = new SingleFlight<number>();
    const work = Promise.withResolvers<number>();
    let starts = 0;
    const start = (): Promise<number> => {
      starts += 1;
      return work.promise;
    };
    const both = [flights.join('a', start), flights.join('a', start)];
    work.resolve(1);
    expect(await Promise.all(both)).toEqual([1, 1]);
    expect(starts).toBe(1);
    await flights.join('a', start);
    expect(starts).toBe(2);
  });

  it('gives a rejection to all callers, then starts anew', async () => {
    const flights = new SingleFlight<number>();
    const failing = (): Promise<number> => Promise.reject(new Error('not found'));
    await expect(Promise.all([flights.join('a', failing), flights.join('a', failing)])).rejects.toThrow(
      'not found',
    );
    await expect(flights.join('a', () => Promise.resolve(2))).resolves.toBe(2);
  });

  it('is idle when the work of the key has ended, also by rejection', async () => {
    const flights = new SingleFlight<number>();
    await flights.idle('a');
    const work = Promise.withResolvers<number>();
    let isIdle = false;
    void flights.join('a', () => work.promise);
    const idle = flights.idle('a').then(() => (isIdle = true));
    await flights.idle('b');
    expect(isIdle).toBe(false);
    work.reject(new Error('broken'));
    await idle;
  });

  it('turns a start that throws into a rejection', async () => {
    const flights = new SingleFlight<number>();
    const thrown = flights.join('a', () => {
      throw new Error('no descriptor is free');
    });
    await expect(thrown).rejects.toThrow('no descriptor is free');
  });
});

describe('SharedFlight', () => {
  it('starts equal work once, and again after it has ended', async () => {
    const flights = new SharedFlight<number>();
    const { signal } = new AbortController();
    const work = Promise.withResolvers<number>();
    let starts = 0;
    const start = (): Promise<number> => {
      starts += 1;
      return work.promise;
    };
    const both = [flights.join('a', start, signal), flights.join('a', start, signal)];
    work.resolve(1);
    expect(await Promise.all(both)).toEqual([1, 1]);
    await flights.join('a', start, signal);
    expect(starts).toBe(2);
  });

  it('ends its work when the last caller leaves, and starts anew for the next', async () => {
    const flights = new SharedFlight<number>();
    const callers = [new AbortController(), new AbortController()] as const;
    let work: AbortSignal | undefined;
    const endless = (signal: AbortSignal): Promise<number> => {
      work = signal;
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      });
    };
    const [first, second] = callers.map(({ signal }) => flights.join('a', endless, signal));
    callers[0].abort(new Error('the first left'));
    await expect(first).rejects.toThrow('the first left');
    expect(work?.aborted).toBe(false);
    callers[1].abort(new Error('the second left'));
    await expect(second).rejects.toThrow('the second left');
    expect(work?.aborted).toBe(true);
    const { signal } = new AbortController();
    await expect(flights.join('a', () => Promise.resolve(2), signal)).resolves.toBe(2);
  });

  it('gives a rejection to all callers, also one that the start throws', async () => {
    const flights = new SharedFlight<number>();
    const { signal } = new AbortController();
    const failing = (): Promise<number> => {
      throw new Error('not found');
    };
    const both = [flights.join('a', failing, signal), flights.join('a', failing, signal)];
    for (const each of both) await expect(each).rejects.toThrow('not found');
  });

  it('starts nothing for a caller that has left', async () => {
    const flights = new SharedFlight<number>();
    const left = AbortSignal.abort(new Error('left'));
    let starts = 0;
    const start = (): Promise<number> => Promise.resolve((starts += 1));
    await expect(flights.join('a', start, left)).rejects.toThrow('left');
    expect(starts).toBe(0);
  });
});
