import { describe, expect, it } from 'vitest';
import { parseListen } from './listen.js';
import { nearest } from './nearest.js';
import { schedule } from './schedule.js';
import {
  count,
  duration,
  flag,
  host,
  lifetime,
  origin,
  remoteAddress,
  size,
  time,
  tlsVersion,
} from './values.js';

describe('a duration', () => {
  it.each([
    ['10ms', 10],
    ['60s', 60_000],
    ['1h30m', 5_400_000],
    ['168h', 604_800_000],
    ['1.5s', 1500],
    ['0', 0],
    ['0s', 0],
    ['10000000000', 10_000],
    ['1ms', 1],
    ['1500us', 2],
    ['1000000', 1],
    ['0.1s', 100],
  ])('%s is %d ms', (given, expected) => {
    expect(duration.read(given)).toBe(expected);
  });

  it.each([
    '',
    '-1s',
    '1d',
    '1 s',
    's',
    '10ms5',
    '1000h',
    '1e9',
    '+1s',
    '-1',
    'NaN',
    'Infinity',
    '0x10',
    '9'.repeat(400),
  ])('%j is none', (given) => {
    expect(duration.read(given)).toBeUndefined();
  });

  it('is told from what only begins like one at once, however long', () => {
    expect(duration.read(`${'10s'.repeat(1000)}x`)).toBeUndefined();
  });

  it.each(['1', '168', '999999', '1ns', '1us', '999us', '0.9ms', '0.0001s'])(
    'rejects %s: it is less than 1 ms and not 0',
    (given) => {
      for (const value of [duration, time, lifetime, schedule]) expect(value.read(given)).toBeUndefined();
    },
  );

  it.each(['604800000', '3600000000'])('rejects %s as a lifetime: too short, without a unit', (given) => {
    expect(lifetime.read(given)).toBeUndefined();
    expect(time.read(given)).toBeGreaterThan(0);
  });

  it.each(['1ms', '999ms', '300', '999000000'])('rejects %s as the interval of a job: too short', (given) => {
    expect(schedule.read(given)).toBeUndefined();
  });
});

describe('a size', () => {
  it.each([
    ['500GB', 500e9],
    ['20GiB', 20 * 2 ** 30],
    ['1.5KB', 1500],
    ['10 MB', 10e6],
    ['5Gi', 5 * 2 ** 30],
    ['1g', 1e9],
    ['4096', 4096],
    ['12B', 12],
  ])('%s is %d bytes', (given, expected) => {
    expect(size.read(given)).toBe(expected);
  });

  it.each([
    '',
    'GB',
    '-1',
    '1XB',
    '5iB',
    '1e9',
    '99999999PB',
    '1',
    '500',
    '999',
    '0.5',
    '1500.5',
    '1.5',
    'NaN',
    '-1GB',
    '9'.repeat(400),
  ])('%j is none', (given) => {
    expect(size.read(given)).toBeUndefined();
  });
});

describe('a flag', () => {
  it("is read by YAML 1.1's words too, as registry reads it", () => {
    expect(['true', 'True', 'yes', 'ON', 'y'].map(flag.read)).toEqual([true, true, true, true, true]);
    expect(['false', 'no', 'Off', 'n'].map(flag.read)).toEqual([false, false, false, false]);
    expect(['1', '0', 'disabled', ''].map(flag.read)).toEqual([undefined, undefined, undefined, undefined]);
  });
});

describe('a host', () => {
  it("is in lower case, and Docker Hub's names are one", () => {
    expect(host.read('GHCR.io')).toBe('ghcr.io');
    expect(host.read('registry.local:5000')).toBe('registry.local:5000');
    expect(host.read('index.docker.io')).toBe('docker.io');
    expect(host.read('registry-1.docker.io')).toBe('docker.io');
  });

  it.each([
    '',
    'a/b',
    'https://a',
    'a..b',
    '-a',
    'a:',
    'a:b',
    '../x',
    'a_b',
    'a b',
    '[::1]:5000',
    'a:0',
    'a:65536',
    'a:99999',
  ])('%j is none', (given) => {
    expect(host.read(given)).toBeUndefined();
  });
});

describe('an origin', () => {
  it('is a URL with nothing behind the port', () => {
    expect(origin.read('https://registry-1.docker.io/')).toBe('https://registry-1.docker.io');
    expect(origin.read('http://127.0.0.1:5003')).toBe('http://127.0.0.1:5003');
  });

  it.each([
    'ghcr.io',
    'ftp://a',
    'https://',
    'https://a/v2',
    'https://a?x=1',
    'https://a#x',
    'https://u@a',
    'https://u:p@a',
  ])('%s is none', (given) => {
    expect(origin.read(given)).toBeUndefined();
  });
});

it('spells versions of TLS as Node does', () => {
  expect(['tls1.0', 'tls1.1', 'tls1.2', 'TLS1.3', '1.2'].map(tlsVersion.read)).toEqual([
    'TLSv1',
    'TLSv1.1',
    'TLSv1.2',
    'TLSv1.3',
    undefined,
  ]);
});

describe('an address to listen on', () => {
  it.each([
    [':5000', { port: 5000 }],
    ['127.0.0.1:5000', { host: '127.0.0.1', port: 5000 }],
    ['[::1]:5000', { host: '::1', port: 5000 }],
    ['localhost:0', { host: 'localhost', port: 0 }],
  ])('%s', (given, expected) => {
    expect(parseListen(given)).toEqual(expected);
  });

  it.each(['', '5000', 'localhost', ':', ':65536', '::1:5000', '[::1]', '[x]:1', 'a b:1', ':5000/'])(
    '%j is none',
    (given) => {
      expect(parseListen(given)).toBeUndefined();
    },
  );
});

it('finds the nearest name by the fewest edits', () => {
  expect(nearest('remoteulr', ['username', 'remoteurl', 'ttl'])).toBe('remoteurl');
  expect(nearest('maxsiz', ['directory', 'maxsize'])).toBe('maxsize');
  expect(nearest('x', [])).toBeUndefined();
});

describe('a count', () => {
  it.each(['', '-1', '1.5', '1e3', 'NaN', '0x1', '+1', ' 1', '2147483648', '9'.repeat(400)])(
    '%j is none',
    (given) => {
      expect(count().read(given)).toBeUndefined();
    },
  );

  it('names both bounds if it has them', () => {
    expect(count(1, 16).wanted).toBe('a whole number from 1 to 16');
    expect(count(1).wanted).toBe('a whole number, 1 or more');
  });
});

describe('an address to connect to', () => {
  it.each(['a:0', ':0', 'a:65536', 'a:-1', 'a:1e3', 'a', '[::1]'])('rejects %j', (given) => {
    expect(remoteAddress.read(given)).toBeUndefined();
  });

  it('is a host and a port', () => {
    expect(['redis:6379', ':6379', '[::1]:1', 'a:65535'].map(remoteAddress.read)).not.toContain(undefined);
  });
});
