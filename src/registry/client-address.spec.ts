import { describe, expect, it } from 'vitest';
import { network, type Network } from '../config/values.js';
import { ClientAddresses } from './client-address.js';

const networks = (...texts: string[]): Network[] =>
  texts.map((text) => network.read(text)).filter((each) => each !== undefined);

function seen(
  remoteAddress: string | undefined,
  forwarded?: string,
  ...proxies: string[]
): string | undefined {
  const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
  return new ClientAddresses(networks(...proxies)).of({ socket: { remoteAddress }, headers });
}

describe("a client's address", () => {
  it('is that of the connection', () => {
    expect(seen('10.0.0.1')).toBe('10.0.0.1');
    expect(seen('::ffff:10.0.0.1')).toBe('10.0.0.1');
    expect(seen('fd00::1')).toBe('fd00::1');
    expect(seen(undefined)).toBeUndefined();
  });

  it('is not what somebody says who is no trusted proxy', () => {
    expect(seen('10.0.0.1', '10.9.9.9')).toBe('10.0.0.1');
    expect(seen('10.0.0.1', '10.9.9.9', '10.0.0.2')).toBe('10.0.0.1');
  });

  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['10.9.9.9, 192.0.2.7', '192.0.2.7'],
    ['10.9.9.9, 192.0.2.7, 10.0.0.2', '192.0.2.7'],
    ['192.0.2.7:51234', '192.0.2.7'],
    ['[2001:db8::7]:51234', '2001:db8::7'],
    ['10.9.9.9, unknown', undefined],
    ['10.9.9.9,', undefined],
    ['', undefined],
    [undefined, undefined],
  ])(
    'is the last in X-Forwarded-For that a trusted proxy did not add for another: %j',
    (forwarded, address) => {
      expect(seen('::ffff:10.0.0.1', forwarded, '10.0.0.0/30')).toBe(address);
    },
  );
});
