import { describe, expect, it } from 'vitest';
import { checkRealm } from './realm.js';
import { UpstreamError } from './upstream.js';

function check(realm: string, url: string, realms: string[] = []): URL {
  return checkRealm(realm, { host: 'registry', url: new URL(url), realms });
}

describe('the realm rule', () => {
  it.each<[string, string, string, string[]]>([
    ['the same host', 'https://quay.io/v2/auth', 'https://quay.io', []],
    ['the same host on another port', 'https://r.example.com:8443/token', 'https://r.example.com', []],
    ['the same address on another port', 'http://127.0.0.1:5001/token', 'http://127.0.0.1:5000', []],
    ['the same single name', 'http://registry:81/token', 'http://registry:5000', []],
    ['a sibling in the domain', 'https://auth.docker.io/token', 'https://registry-1.docker.io', []],
    ['the domain itself', 'https://gitlab.com/jwt/auth', 'https://registry.gitlab.com', []],
    ['https for an http upstream', 'https://auth.example.com/', 'http://registry.example.com', []],
    ['a listed host', 'https://login.example.net/token', 'https://r.example.com', ['login.example.net']],
    [
      'a listed host in capitals',
      'https://login.example.net/',
      'https://r.example.com',
      ['Login.Example.NET'],
    ],
    [
      'a listed host on any port',
      'https://login.example.net:444/',
      'https://r.example.com',
      ['login.example.net'],
    ],
    ['a listed port', 'https://login.example.net:444/', 'https://r.example.com', ['login.example.net:444']],
    [
      'a listed default port',
      'https://login.example.net/',
      'https://r.example.com',
      ['login.example.net:443'],
    ],
  ])('allows %s', (_, realm, url, realms) => {
    expect(check(realm, url, realms).href).toBe(new URL(realm).href);
  });

  it.each<[string, string, string, string[]]>([
    ['another domain', 'https://evil.example.net/token', 'https://r.example.com', []],
    ['a domain that only ends alike', 'https://notexample.com/', 'https://r.example.com', []],
    ['a name with an empty label', 'https://example.com../', 'https://r.example.com', []],
    ['a stranger under a public suffix', 'https://evil.co.uk/', 'https://registry.co.uk', []],
    ['a stranger under a private suffix', 'https://evil.github.io/', 'https://mine.github.io', []],
    ['another address', 'http://10.0.0.2/token', 'http://10.0.0.1', []],
    ['an address of the same network', 'http://169.254.169.254/', 'http://169.254.1.1', []],
    ['another single name', 'http://metadata/', 'http://registry:5000', []],
    ['http for an https upstream', 'http://auth.docker.io/token', 'https://registry-1.docker.io', []],
    ['http though listed', 'http://login.example.net/', 'https://r.example.com', ['login.example.net']],
    [
      'another port than the listed one',
      'https://login.example.net/',
      'https://r.example.com',
      ['login.example.net:8443'],
    ],
    ['user information', 'https://user@auth.docker.io/token', 'https://registry-1.docker.io', []],
    [
      'a host hidden behind user information',
      'https://docker.io@evil.net/',
      'https://registry-1.docker.io',
      [],
    ],
    ['another scheme', 'file:///etc/passwd', 'https://r.example.com', []],
    ['a relative reference', '/token', 'https://r.example.com', []],
    ['nothing', '', 'https://r.example.com', []],
  ])('refuses %s', (_, realm, url, realms) => {
    expect(() => check(realm, url, realms)).toThrow(
      expect.objectContaining({ code: 'realm-refused', kind: 'trouble' }),
    );
  });

  it('names the host of a refused realm, and of the rest nothing', () => {
    const refused = (): URL => check('https://evil.example.net:444/path?secret=1', 'https://r.example.com');
    expect(refused).toThrow(UpstreamError);
    expect(refused).toThrow("upstream registry: the token realm's host evil.example.net:444 is not");
    expect(refused).toThrow('"realms"');
    expect(refused).not.toThrow('secret');
    expect(refused).not.toThrow('/path');
  });
});
