import { describe, expect, it } from 'vitest';
import { placeOf } from './healthcheck.js';

describe('where a server is asked for its health', () => {
  it.each([
    [':5000', { host: '127.0.0.1', port: 5000 }],
    ['0.0.0.0:80', { host: '127.0.0.1', port: 80 }],
    ['[::]:80', { host: '::1', port: 80 }],
    ['10.0.0.7:5000', { host: '10.0.0.7', port: 5000 }],
    ['[fd00::7]:5000', { host: 'fd00::7', port: 5000 }],
    ['localhost:5000', { host: 'localhost', port: 5000 }],
  ])('that listens on %s', (addr, place) => {
    expect(placeOf({ net: 'tcp', addr })).toEqual(place);
  });

  it('that listens on a socket', () => {
    expect(placeOf({ net: 'unix', addr: '/run/mirror.sock' })).toEqual({ path: '/run/mirror.sock' });
  });

  it('is not known of a port that the system chose', () => {
    expect(() => placeOf({ net: 'tcp', addr: ':0' })).toThrow('which port');
  });
});
