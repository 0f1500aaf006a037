import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseRepository, parseTag } from './name.js';

describe('parseRepository', () => {
  it.each(['alpine', 'library/alpine', 'a/b/c/d', 'a-b/c_d/e__f/g.h', 'a--b', 'ghcr.io/o/i', '0'])(
    'takes %s',
    (name) => {
      expect(parseRepository(name)).toBe(name);
    },
  );

  it.each([
    '',
    '/',
    'a/',
    '/a',
    'a//b',
    'A/b',
    'a/../b',
    '..',
    '.',
    'a/.b',
    'a_/b',
    '-a',
    'a___b',
    'a..b',
    'a b',
    'a\0b',
    'a%2fb',
    'registry.local:5000/a',
    'a\n',
    'a'.repeat(256),
  ])('refuses %j', (name) => {
    expect(parseRepository(name)).toBeUndefined();
  });

  it('never lets through what could leave a folder', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '.', '/', '_', '-', '%', '\0', '\\', ':') }),
        (text) => {
          const name = parseRepository(text);
          if (name === undefined) return;
          expect(name.split('/')).not.toContain('..');
          expect(name).toMatch(/^[a-z0-9][a-z0-9._/-]*$/);
          expect(name).not.toMatch(/\/\/|\/$/);
        },
      ),
      { numRuns: 20_000 },
    );
  });

  it('decides on a long hostile name at once', () => {
    expect(parseRepository(`${'a-'.repeat(127)}!`)).toBeUndefined();
  });
});

describe('parseTag', () => {
  it.each(['latest', 'v1.2.3', '_x', 'A-b.C_d', 'x'.repeat(128)])('takes %s', (tag) => {
    expect(parseTag(tag)).toBe(tag);
  });
  it.each(['', '.x', '-x', 'a/b', 'a:b', 'a b', '..', 'x'.repeat(129), 'ü'])('refuses %j', (tag) => {
    expect(parseTag(tag)).toBeUndefined();
  });
});
