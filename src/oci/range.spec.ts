import { describe, expect, it } from 'vitest';
import { parseRange, RangeUnsatisfiable, resolveRange } from './range.js';

describe('parseRange', () => {
  it.each([
    ['bytes=0-0', { start: 0, end: 0 }],
    ['bytes=5-', { start: 5, end: undefined }],
    ['bytes=-7', { last: 7 }],
    ['bytes = 1 - 2', { start: 1, end: 2 }],
    [`bytes=${'9'.repeat(16)}-`, { start: Number.MAX_SAFE_INTEGER, end: undefined }],
    [`bytes=0-${'9'.repeat(400)}`, { start: 0, end: Number.MAX_SAFE_INTEGER }],
    [`bytes=-${'9'.repeat(16)}`, { last: Number.MAX_SAFE_INTEGER }],
  ])('reads %s', (header, range) => {
    expect(parseRange(header)).toEqual(range);
  });

  it.each([
    undefined,
    '',
    'bytes',
    'bytes=',
    'bytes=-',
    'bytes=2-1',
    'bytes=0-1,3-4',
    'lines=0-1',
    'bytes=a-b',
    'bytes=1e3-',
  ])('answers %j with the whole', (header) => {
    expect(parseRange(header)).toBeUndefined();
  });
});

describe('resolveRange', () => {
  it.each([
    [{ start: 0, end: 9 }, 10, { start: 0, end: 9 }],
    [{ start: 0, end: 99 }, 10, { start: 0, end: 9 }],
    [{ start: 9, end: undefined }, 10, { start: 9, end: 9 }],
    [{ last: 3 }, 10, { start: 7, end: 9 }],
    [{ last: 30 }, 10, { start: 0, end: 9 }],
  ] as const)('%j of %i bytes', (range, size, expected) => {
    expect(resolveRange(range, size)).toEqual(expected);
  });

  it.each([
    [{ start: 10, end: undefined }, 10],
    [{ last: 0 }, 10],
    [{ last: 1 }, 0],
    [{ start: 0, end: undefined }, 0],
  ] as const)('%j is outside of %i bytes', (range, size) => {
    expect(() => resolveRange(range, size)).toThrow(RangeUnsatisfiable);
  });
});
