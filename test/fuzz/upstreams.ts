import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseChallenges } from '../../src/upstream/challenge.js';
import { checkRealm } from '../../src/upstream/realm.js';
import { UpstreamError } from '../../src/upstream/upstream.js';
import type { Fuzzed } from './properties.js';
import { isHeaderSafe, texts } from './texts.js';

const rule = {
  host: 'registry.example.com',
  url: new URL('https://registry.example.com'),
  realms: ['tokens.example.net:8443'],
};

/** The host of a realm that credentials may go to. */
const own = /^(?:[^/@]+\.)?example\.com\.?$|^tokens\.example\.net$/;

function realmOf(text: string): URL | undefined {
  try {
    return checkRealm(text, rule);
  } catch (error) {
    assert.ok(error instanceof UpstreamError && error.code === 'realm-refused', 'only a refusal');
    assert.ok(error.reason.length < 500, 'a short reason');
    return undefined;
  }
}

export const challenges: Fuzzed = {
  name: 'challenges and realms of upstreams',
  share: 150_000,
  check: (numRuns, seed) => {
    const headers = texts(
      'Bearer ',
      'Basic ',
      'realm=',
      'realm="https://',
      'auth.example.com',
      'example.com',
      'evil.test',
      'tokens.example.net:8443',
      'https://user:pass@',
      'http://',
      '/token"',
      ',service="x"',
      ',scope=',
    );
    const property = fc.property(fc.oneof(headers, fc.array(headers, { maxLength: 3 })), (header) => {
      for (const { scheme, parameters } of parseChallenges(header)) {
        assert.equal(scheme, scheme.toLowerCase());
        const realm = parameters.get('realm');
        const url = realm === undefined ? undefined : realmOf(realm);
        if (url === undefined) continue;
        assert.equal(url.protocol, 'https:');
        assert.match(url.hostname, own, url.href);
        assert.ok(!url.hostname.includes('..'), url.href);
        assert.equal(url.username + url.password, '');
        url.searchParams.set('service', parameters.get('service') ?? '');
        assert.ok(isHeaderSafe(url.pathname + url.search), 'one line');
      }
    });
    fc.assert(property, { numRuns, seed });
  },
};
