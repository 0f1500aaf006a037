import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDigest } from './digest.js';
import { parseRepository, parseTag } from './name.js';
import { parseReference } from './reference.js';

const hex = 'a'.repeat(64);
const digest = `sha256:${hex}`;

describe('parseReference', () => {
  it.each([
    ['nginx', undefined, 'nginx', 'latest', undefined],
    ['nginx:1.27', undefined, 'nginx', '1.27', undefined],
    ['library/nginx', undefined, 'library/nginx', 'latest', undefined],
    ['docker.io/library/nginx:1', 'docker.io', 'library/nginx', '1', undefined],
    ['docker.io/nginx', 'docker.io', 'nginx', 'latest', undefined],
    ['ghcr.io/o/i:tag', 'ghcr.io', 'o/i', 'tag', undefined],
    ['GHCR.io/o/i', 'ghcr.io', 'o/i', 'latest', undefined],
    ['localhost/x', 'localhost', 'x', 'latest', undefined],
    ['localhost:5000/x', 'localhost:5000', 'x', 'latest', undefined],
    ['registry:5000/a/b:c', 'registry:5000', 'a/b', 'c', undefined],
    ['[::1]:5000/x', '[::1]:5000', 'x', 'latest', undefined],
    [`nginx@${digest}`, undefined, 'nginx', undefined, digest],
    [`ghcr.io/o/i:1@${digest}`, 'ghcr.io', 'o/i', '1', digest],
    [`localhost:5000/x@${digest}`, 'localhost:5000', 'x', undefined, digest],
    // Without a slash, or a dot, a colon or a capital letter before it, there is no host.
    ['ghcr.io', undefined, 'ghcr.io', 'latest', undefined],
    ['ghcr/o', undefined, 'ghcr/o', 'latest', undefined],
  ])('%s', (text, host, name, tag, expected) => {
    expect(parseReference(text)).toEqual({ host, name, tag, digest: expected });
  });

  it.each([
    '',
    ':',
    'nginx:',
    ':tag',
    '@',
    'nginx@',
    `nginx@sha256:${hex.slice(1)}`,
    `nginx@${digest}@${digest}`,
    'Nginx',
    'a//b',
    '/a',
    'a/',
    'ghcr.io/',
    '-host.io/x',
    'host..io/x',
    'host:port/x',
    'host:123456/x',
    'https://ghcr.io/o/i',
    'a:b:c',
    'a b',
    'a/../b',
    `a:${'t'.repeat(129)}`,
    'a'.repeat(256),
  ])('%j is none', (text) => {
    expect(parseReference(text)).toBeUndefined();
  });

  it('reads what its parts were put together from', () => {
    const host = fc.constantFrom('ghcr.io', 'localhost', 'registry:5000', 'a-b.example.com:1', '[::1]:80');
    const word = fc.stringMatching(/^[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,4})?$/);
    const name = fc.tuple(word, word).map((parts) => parts.join('/'));
    const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/);
    const optionalDigest = fc.option(fc.constant(digest), { nil: undefined });
    fc.assert(
      fc.property(host, name, fc.option(tag, { nil: undefined }), optionalDigest, (...parts) => {
        const [h, n, t, d] = parts;
        const text = `${h}/${n}${t === undefined ? '' : `:${t}`}${d === undefined ? '' : `@${d}`}`;
        const latest = d === undefined ? 'latest' : undefined;
        expect(parseReference(text)).toEqual({ host: h, name: n, tag: t ?? latest, digest: d });
      }),
    );
  });

  it('takes any text without throwing, and gives only what the grammars allow', () => {
    const piece = fc.constantFrom(
      'a',
      'A',
      '/',
      ':',
      '@',
      '.',
      '_',
      '-',
      '..',
      digest,
      '5000',
      '[',
      ']',
      ' ',
      '%',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 10 }), (pieces) => {
        const found = parseReference(pieces.join(''));
        if (found === undefined) return;
        expect(parseRepository(found.name)).toBe(found.name);
        expect(found.tag && parseTag(found.tag)).toBe(found.tag);
        expect(found.digest && parseDigest(found.digest)).toBe(found.digest);
        expect(found.tag ?? found.digest).toBeDefined();
      }),
      { numRuns: 20_000 },
    );
  });
});
