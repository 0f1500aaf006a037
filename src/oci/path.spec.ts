import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parsePath } from './path.js';

describe('parsePath', () => {
  it.each([
    ['/v2/', { kind: 'base' }],
    ['/v2', { kind: 'base' }],
    ['/v2/_catalog', { kind: 'catalog' }],
    ['/v2/a/manifests/latest', { kind: 'manifest', name: 'a', reference: 'latest' }],
    ['/v2/a/b/blobs/sha256:ab', { kind: 'blob', name: 'a/b', reference: 'sha256:ab' }],
    ['/v2/a/b/blobs/sha256%3Aab', { kind: 'blob', name: 'a/b', reference: 'sha256:ab' }],
    ['/v2/a%2Fb/tags/list', { kind: 'tags', name: 'a/b' }],
    ['/v2/a/referrers/sha256:ab', { kind: 'referrers', name: 'a', reference: 'sha256:ab' }],
    ['/v2/manifests/manifests/manifests', { kind: 'manifest', name: 'manifests', reference: 'manifests' }],
    ['/v2/a/blobs/blobs/x', { kind: 'blob', name: 'a/blobs', reference: 'x' }],
    [
      '/v2/registry.local:5000/a/manifests/x',
      { kind: 'manifest', name: 'registry.local:5000/a', reference: 'x' },
    ],
    ['/v2/a/blobs/uploads/', { kind: 'upload', name: 'a' }],
    ['/v2/a/blobs/uploads/some-id', { kind: 'upload', name: 'a' }],
  ])('%s', (path, target) => {
    expect(parsePath(path)?.target).toEqual(target);
  });

  it.each([
    '',
    '/',
    '/v1/a/manifests/x',
    '/v2x',
    '/v2//',
    '/v2/manifests/x',
    '/v2/a/tags/other',
    '/v2/a/unknown/x',
    '/v2/%zz/manifests/x',
    '/v2/a/manifests/%',
    'http://host/v2/',
  ])('%j is no end point', (path) => {
    expect(parsePath(path)).toBeUndefined();
  });

  it('reads the query', () => {
    expect(parsePath('/v2/a/manifests/x?ns=ghcr.io&n=2')?.query?.get('ns')).toBe('ghcr.io');
    expect(parsePath('/v2/a/manifests/x')?.query).toBeUndefined();
  });

  it('takes any text without throwing', () => {
    const piece = fc.constantFrom(
      '/v2/',
      'a',
      '/',
      'manifests',
      'blobs',
      'uploads',
      'tags',
      'list',
      '%',
      '%2F',
      '%00',
      '..',
      '?',
      '#',
      ':',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        expect(parsePath(pieces.join(''))?.target ?? {}).not.toHaveProperty('name', '');
      }),
      { numRuns: 20_000 },
    );
  });
});
