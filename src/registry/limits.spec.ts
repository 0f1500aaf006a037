import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { parsePath } from '../oci/path.js';
import { ClientAddresses } from './client-address.js';
import { Exchange } from './exchange.js';
import { Limits } from './limits.js';

const direct = new ClientAddresses([]);
const generous = { requests: 100, rate: undefined, burst: 0, urlsize: 1_000 };

function asking(limits: Limits, url: string, remoteAddress = '192.0.2.1'): void {
  const request = { url, headers: {}, socket: { remoteAddress } } as unknown as IncomingMessage;
  limits.check(new Exchange(request, {} as ServerResponse, 'id'), parsePath(url));
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
    expect(ask()).toBeUndefined();
    expect(ask()).toMatchObject({ status: 503 });
    now = 60_000;
    expect([ask(), ask(), ask()]).toEqual([undefined, undefined, undefined]);
    expect(ask()).toMatchObject({ status: 503 });
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
  it('are those that were not answered at once, until they are over', () => {
    const limits = new Limits({ ...generous, requests: 2 }, direct);
    const responses = [new EventEmitter(), new EventEmitter()] as unknown as ServerResponse[];
    for (const response of responses) {
      asking(limits, '/v2/');
      limits.hold(response);
    }
    expect(thrown(() => asking(limits, '/v2/'))).toMatchObject({
      status: 503,
      headers: { 'Retry-After': '2' },
    });
    responses[0]?.emit('close');
    asking(limits, '/v2/');
    limits.hold({ closed: true } as ServerResponse);
    asking(limits, '/v2/');
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
