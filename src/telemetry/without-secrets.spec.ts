import { expect, it } from 'vitest';
import { withoutSecrets } from './without-secrets.js';

const jwt = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl';
const key = ['-----BEGIN RSA PRIVATE KEY-----', 's3cret', '-----END RSA PRIVATE KEY-----'].join('\n');

it.each([
  ['connect redis://:s3cret@redis:6379 failed', 'connect redis://(hidden)@redis:6379 failed'],
  ['GET https://me:s3cret@ghcr.io/v2/?a=1', 'GET https://(hidden)@ghcr.io/v2/?a=1'],
  ['Authorization: Basic bWU6czNjcmV0', 'Authorization: (hidden)'],
  ['{"authorization":"Bearer s3cret","accept":"*/*"}', '{"authorization":"(hidden)","accept":"*/*"}'],
  ["[ 'Authorization', 'Bearer s3cret', 'Accept' ]", "[ 'Authorization', '(hidden)', 'Accept' ]"],
  ['the header was Bearer s3cret-t0ken', 'the header was Bearer (hidden)'],
  ['answered 401 with Bearer realm="https://a/token"', 'answered 401 with Bearer realm="https://a/token"'],
  [`sent ${jwt} to it`, 'sent (hidden) to it'],
  ['{"access_token":"s3cret","expires_in":60}', '{"access_token":(hidden),"expires_in":60}'],
  ['login with password=s3cret&user=me', 'login with password=(hidden)&user=me'],
  [
    'GET /b/k?X-Amz-Credential=AK%2F1&X-Amz-Date=2&X-Amz-Security-Token=s3&X-Amz-Signature=c0ffee HTTP/1.1',
    'GET /b/k?X-Amz-Credential=(hidden)&X-Amz-Date=2&X-Amz-Security-Token=(hidden)&X-Amz-Signature=(hidden) HTTP/1.1',
  ],
  ['https://a/b?sv=1&sig=c0ffee%3D', 'https://a/b?sv=1&sig=(hidden)'],
  [`Unexpected token 'h', "hunter"2" is not valid JSON`, `Unexpected token 'h', (hidden) is not valid JSON`],
  [`the key ${key} is refused`, 'the key (hidden) is refused'],
  [`ghp_${'a'.repeat(36)} is refused`, '(hidden) is refused'],
])('hides the credential in %j', (text, clean) => {
  expect(withoutSecrets(text)).toBe(clean);
});

it.each([
  'upstream ghcr.io: answered 503',
  'unauthorized: authentication required, Basic authentication',
  `https://ghcr.io/v2/app/blobs/sha256:${'0a'.repeat(32)} timed out`,
  'at Object.join (file:///usr/lib/cistern/dist/async/single-flight.js:14:20)',
  'no room in memory for 4096 bytes',
])('keeps %j', (text) => {
  expect(withoutSecrets(text)).toBe(text);
});

it('hides known secrets in whatever form', () => {
  expect(withoutSecrets('refused: squeamish!', ['squeamish', 'e'])).toBe('refused: (hidden)!');
});

it.each(['-', 'a', 'a://', '"', ' ', 'token', 'eyJ', 'Unexpected a, "', '-----BEGIN PRIVATE KEY-----'])(
  'cuts a long text of %j, and takes little time for it',
  (piece) => {
    expect(withoutSecrets(piece.repeat(1_000_000)).length).toBeLessThanOrEqual(16 * 1024);
  },
);
