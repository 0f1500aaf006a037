import { describe, expect, it } from 'vitest';
import { isPlain, mayComeAgain } from './plain-request.js';

function request(
  headers: readonly string[] = ['Host: mirror'],
  line = 'GET /v2/a/manifests/b HTTP/1.1',
): string {
  return [line, ...headers, '', ''].join('\r\n');
}

describe('a plain request', () => {
  it.each([
    request(),
    request(['host:mirror', 'Accept:*/*, a/b;q=0.5', 'X-Empty:']),
    request(['Host: mirror', 'Connection: Keep-Alive']),
    request(['Host: mirror'], 'HEAD /v2/a%2fb/blobs/sha256:00?ns=docker.io HTTP/1.1'),
  ])('is %j', (text) => {
    expect(isPlain(text)).toBe(true);
  });

  it.each([
    '',
    request().slice(0, -1),
    request().slice(1),
    `${request()}x`,
    request() + request(),
    `\r\n${request()}`,
    request().replaceAll('\r\n', '\n'),
    request(['Host: mirror', 'Folded: one\r\n two']),
    request(['Host: mirror', 'Space : before']),
    request(['Host: mirror', 'High: \u00e9']),
    request(['Host: mirror', 'Control: \u0001']),
    request([]),
    ...[
      'Content-Length: 0',
      'transfer-encoding:chunked',
      'Expect: 100-continue',
      'Upgrade: h2c',
      'TE: trailers',
    ].map((header) => request(['Host: mirror', header])),
    ...['close', 'keep-alive, close', 'Upgrade', ''].map((value) =>
      request(['Host: mirror', `Connection: ${value}`]),
    ),
    request(['Host: mirror'], 'POST /v2/a/manifests/b HTTP/1.1'),
    request(['Host: mirror'], 'get /v2/a/manifests/b HTTP/1.1'),
    request(['Host: mirror'], 'GET /v2/a/manifests/b HTTP/1.0'),
    request(['Host: mirror'], 'GET  /v2/a/manifests/b HTTP/1.1'),
    request(['Host: mirror'], 'GET http://mirror/v2/a HTTP/1.1'),
    request(['Host: mirror'], 'GET /healthz HTTP/1.1'),
  ])('is not %j', (text) => {
    expect(isPlain(text)).toBe(false);
  });
});

describe('a request that may come again', () => {
  it.each([request(), request(['Host: mirror', 'X-Forwarded-For: 10.0.0.1'])])('is %j', (text) => {
    expect(mayComeAgain(text)).toBe(true);
  });

  it.each([
    'Authorization: Bearer x',
    'proxy-authorization: x',
    'Cookie: a',
    'Range: bytes=0-1',
    'If-Modified-Since: x',
    'X-Request-Id: 1',
    'traceparent: 00',
    'Host: another',
  ])('has no %s beside its host', (header) => {
    expect(mayComeAgain(request(['Host: mirror', header]))).toBe(false);
  });
});
