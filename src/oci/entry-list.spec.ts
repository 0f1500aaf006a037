import { describe, expect, it } from 'vitest';
import { EntryList } from './entry-list.js';

describe('a list of entries', () => {
  const tags = ['a', 'b"', 'ü', 'ü1', '漢'];
  const list = EntryList.of(tags);

  it('gives the text of any part of it', () => {
    for (let start = 0; start <= tags.length; start += 1) {
      for (let end = start; end <= tags.length + 1; end += 1) {
        expect(JSON.parse(`[${list.textOf(start, end).toString()}]`)).toEqual(tags.slice(start, end));
      }
    }
    expect(list.length).toBe(5);
    expect(list.at(2)).toBe('ü');
  });

  it('finds the first entry after another one, also after one that it does not hold', () => {
    for (const last of ['', 'a', 'aa', 'b"', 'ü0', '漢', '龍']) {
      const found = tags.findIndex((tag) => tag > last);
      expect(list.placeAfter(last)).toBe(found === -1 ? tags.length : found);
    }
    expect(EntryList.of([]).placeAfter('a')).toBe(0);
  });

  it('gives the text of the entries that pass', () => {
    const numbers = [1, 2, 4, 5, 6, 8];
    const even = EntryList.of(numbers).textWhere((entry) => Number(entry) % 2 === 0);
    expect(JSON.parse(`[${even.toString()}]`)).toEqual([2, 4, 6, 8]);
    expect(EntryList.of(numbers).textWhere(() => false).byteLength).toBe(0);
  });

  it('takes little more memory than its text', () => {
    const entries = Array.from({ length: 1000 }, (_, n) => `tag-${n + 1000}`);
    expect(EntryList.of(entries).bytes).toBeLessThan(JSON.stringify(entries).length * 1.5);
  });
});
