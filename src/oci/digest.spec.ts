import { describe, expect, it } from 'vitest';
import { algorithmOf, digestOf, hexOf, parseDigest } from './digest.js';

const hex64 = 'a'.repeat(64);
const hex128 = '0'.repeat(128);

describe('parseDigest', () => {
  it.each([`sha256:${hex64}`, `sha512:${hex128}`])('takes %s', (text) => {
    expect(parseDigest(text)).toBe(text);
  });

  it.each([
    '',
    'sha256',
    'sha256:',
    `sha256:${hex64.slice(1)}`,
    `sha256:${hex64}a`,
    `sha256:${hex64.toUpperCase()}`,
    `sha512:${hex64}`,
    `sha1:${'a'.repeat(40)}`,
    `md5:${'a'.repeat(32)}`,
    `sha256:${'../'.repeat(21)}a`,
    `sha256:${hex64}\n`,
    ` sha256:${hex64}`,
  ])('refuses %j', (text) => {
    expect(parseDigest(text)).toBeUndefined();
  });
});

describe('digestOf', () => {
  it('is the known hash of nothing, by either algorithm', () => {
    expect(digestOf(Buffer.alloc(0))).toBe(
      'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    );
    const long = digestOf(Buffer.alloc(0), 'sha512');
    expect(algorithmOf(long)).toBe('sha512');
    expect(hexOf(long)).toMatch(/^cf83e1357eefb8bd/);
    expect(parseDigest(long)).toBe(long);
  });
});
