import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { parsePath } from '../oci/path.js';
import { ClientAddresses } from './client-address.js';
import { Exchange } from './exchange.js';
import { HeldAnswers } from './held-answers.js';
import { Limits } from './limits.js';

const direct = new ClientAddresses([]);
const behind = (address: string) => new ClientAddresses([{ family: 'ipv4', address, prefix: 32 }]);
const generous = { requests: 100, rate: undefined, burst: 0, urlsize: 1_000 };

function asking(limits: Limits, url: string, remoteAddress = '192.0.2.1'): void {
  const request = { url, headers: {}, socket: { remoteAddress } } as unknown as IncomingMessage;
  limits.check(new Exchange(request, {} as ServerResponse, 'id', new HeldAnswers(direct)), parsePath(url));
}

function thrown(ask: () => void): unknown {
  try {
    ask();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('the rate of an address', () => {
  it('is a burst, then so many a second, and another address has its own', () => {
    let now = 0;
    const limits = new Limits({ ...generous, rate: 2, burst: 3 }, direct, () => now);
    const ask = (address?: string) => thrown(() => asking(limits, '/v2/', address));
    expect([ask(), ask(), ask()]).toEqual([undefined, undefined, undefined]);
    expect(ask()).toMatchObject({ code: 'UNAVAILABLE', headers: { 'Retry-After': '1' } });
    expect(ask('192.0.2.2')).toBeUndefined();
    now = 499;
    expect(ask()).toMatchObject({ status: 503 });
    now = 1_000;
    expect([ask(), ask()]).toEqual([undefined, undefined]);
    expect(ask()).toMatchObject({ status: 503 });
    now = 60_000;
    expect([ask(), ask(), ask()]).toEqual([undefined, undefined, undefined]);
    expect(ask()).toMatchObject({ status: 503 });
  });

  it('is the same for a client that repeats refused requests', () => {
    let now = 0;
    const limits = new Limits({ ...generous, rate: 2, burst: 1 }, direct, () => now);
    let answered = 0;
    for (; now <= 10_000; now += 100) if (thrown(() => asking(limits, '/v2/')) === undefined) answered += 1;
    expect(answered).toBe(21); // the burst, and two in each of ten seconds
  });

  it.each([
    ['/v2/ghcr.io/owner/image/manifests/v1', 429, 'TOOMANYREQUESTS'],
    ['/v2/registry.test:5000/image/manifests/v1', 429, 'TOOMANYREQUESTS'],
    ['/v2/library/alpine/manifests/3', 503, 'UNAVAILABLE'],
    ['/v2/owner/image/manifests/v1?ns=ghcr.io', 503, 'UNAVAILABLE'],
    ['/v2/ghcr.io/owner/image/manifests/v1?ns=docker.io', 503, 'UNAVAILABLE'],
    ['/v2/', 503, 'UNAVAILABLE'],
    ['/nothing', 503, 'UNAVAILABLE'],
  ])('makes clients of %s use their next host, or wait where they have none (%i)', (url, status, code) => {
    const limits = new Limits({ ...generous, rate: 1, burst: 1 }, direct, () => 0);
    asking(limits, '/v2/');
    expect(thrown(() => asking(limits, url))).toMatchObject({ status, code });
  });
});

describe('requests at a time', () => {
  /** Holds a slot for a request from this address. Returns the request's response, which gives the slot back. */
  function hold(limits: Limits, remoteAddress: string): EventEmitter {
    const response = new EventEmitter();
    const request = { headers: {}, socket: { remoteAddress } } as unknown as IncomingMessage;
    limits.hold({ request, response: response as unknown as ServerResponse });
    return response;
  }
  const refusals = (limits: Limits, address: string) => thrown(() => asking(limits, '/v2/', address));
  const refused = { status: 503, headers: { 'Retry-After': '2' } };

  it('are those that were not answered at once, until they are over', () => {
    const limits = new Limits({ ...generous, requests: 1 }, direct);
    const response = hold(limits, '192.0.2.1');
    expect(limits.areReached).toBe(true);
    expect(refusals(limits, '192.0.2.1')).toMatchObject(refused);
    expect(refusals(limits, '192.0.2.2')).toMatchObject(refused);
    response.emit('close');
    expect(refusals(limits, '192.0.2.1')).toBeUndefined();
    const request = { headers: {}, socket: {} } as IncomingMessage;
    limits.hold({ request, response: { closed: true } as ServerResponse });
    expect(limits.areReached).toBe(false);
  });

  it('of one address take at most as many as are free, so some are left for the next address', () => {
    const limits = new Limits({ ...generous, requests: 12 }, direct);
    const take = (address: string): number => {
      let taken = 0;
      for (; refusals(limits, address) === undefined; taken += 1) hold(limits, address);
      return taken;
    };
    expect([take('192.0.2.1'), take('192.0.2.2'), take('192.0.2.3')]).toEqual([6, 3, 2]);
    expect(refusals(limits, '192.0.2.4')).toBeUndefined();
  });

  it('are shared by the addresses of one IPv6 network of 64 bits', () => {
    const limits = new Limits({ ...generous, requests: 2 }, direct);
    hold(limits, '2001:db8:0:1::1');
    expect(refusals(limits, '2001:db8::1:a:b:c:d')).toMatchObject(refused);
    expect(refusals(limits, '2001:db8:0:2::1')).toBeUndefined();
  });

  it('are counted by the address behind a trusted proxy', () => {
    const limits = new Limits({ ...generous, requests: 2 }, behind('192.0.2.1'));
    const asked = (forwarded: string) => ({
      url: '/v2/',
      headers: { 'x-forwarded-for': forwarded },
      socket: { remoteAddress: '192.0.2.1' },
    });
    const response = new EventEmitter() as unknown as ServerResponse;
    limits.hold({ request: asked('198.51.100.1') as unknown as IncomingMessage, response });
    const check = (from: string) =>
      thrown(() => limits.check({ request: asked(from) as unknown as IncomingMessage }, undefined));
    expect(check('198.51.100.1')).toMatchObject(refused);
    expect(check('198.51.100.2')).toBeUndefined();
  });

  it('of one user take at most as many as are free, from any addresses', () => {
    const limits = new Limits({ ...generous, requests: 2 }, direct);
    const response = () => new EventEmitter() as unknown as ServerResponse;
    limits.holdForUser({ response: response() }, 'ann');
    expect(thrown(() => limits.holdForUser({ response: response() }, 'ann'))).toMatchObject(refused);
    expect(thrown(() => limits.holdForUser({ response: response() }, 'bob'))).toBeUndefined();
  });
});

it('a URL that is too long is told so', () => {
  const limits = new Limits(generous, direct);
  asking(limits, `/v2/${'a'.repeat(900)}/tags/list`);
  expect(thrown(() => asking(limits, `/v2/${'a'.repeat(1_000)}/tags/list`))).toMatchObject({
    code: 'URL_TOO_LONG',
    status: 414,
  });
});
