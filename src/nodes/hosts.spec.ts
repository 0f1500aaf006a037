import { describe, expect, it } from 'vitest';
import { parseHost, parseMirror } from './hosts.js';

describe('a host', () => {
  it.each([
    'ghcr.io',
    'registry.local:5000',
    '127.0.0.1:5000',
    '[fd00::1]:5000',
    'mirror_cistern',
    'GHCR.io',
  ])('%s is one', (text) => {
    expect(parseHost(text)).toBe(text.toLowerCase());
  });

  it.each([
    '',
    '..',
    'a/b',
    '../etc',
    'a b',
    'a"b',
    'a\nb',
    '<b>',
    'a:',
    'a:x',
    'user@host',
    '.a',
    'a..b',
    '-a',
    `${'a'.repeat(256)}`,
  ])('%j is none', (text) => {
    expect(parseHost(text)).toBeUndefined();
  });
});

describe("a mirror's address", () => {
  it('is an origin', () => {
    expect(parseMirror('https://Mirror.example.com:443/')).toEqual({
      url: 'https://mirror.example.com',
      host: 'mirror.example.com',
      secure: true,
    });
    expect(parseMirror('http://127.0.0.1:5000')).toMatchObject({ host: '127.0.0.1:5000', secure: false });
  });

  it.each([
    'mirror.example.com',
    'https://a/b',
    'https://a?b',
    'https://u:p@a',
    'ftp://a',
    'https://a:99999',
  ])('%s is none', (text) => {
    expect(parseMirror(text)).toBeUndefined();
  });
});
