import { describe, expect, it } from 'vitest';
import { SingleFlight } from './single-flight.js';

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

  it('turns a start that throws into a rejection', async () => {
    const flights = new SingleFlight<number>();
    const thrown = flights.join('a', () => {
      throw new Error('no descriptor is free');
    });
    await expect(thrown).rejects.toThrow('no descriptor is free');
  });
});
