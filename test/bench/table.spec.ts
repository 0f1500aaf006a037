import { describe, expect, it } from 'vitest';
import type { Measure } from '../../bench/scenario.js';
import { rowOf, shortTableOf, tableOf } from '../../bench/table.js';

const rate = { unit: 'requests/s', better: 'more' } as const;
const faster: Measure = { ...rate, title: 'GET', peer: [10, 20, 30], cistern: [50, 50, 60] };
const slower: Measure = { title: 'start', unit: 's', better: 'less', peer: [1, 1, 1], cistern: [2, 3, 4] };
const even: Measure = { ...rate, title: 'HEAD', peer: [10, 10, 10], cistern: [9, 10, 12] };

const lineOf = (table: string, title: string): string | undefined =>
  table.split('\n').find((line) => line.startsWith(`| ${title} |`));

describe('the table', () => {
  const table = tableOf([faster, slower, even].map(rowOf), 'registry');

  it('gives the ratio of the medians with the spread of the rounds’ own ratios', () => {
    expect(lineOf(table, 'GET')).toBe(
      '| GET | more | 20 requests/s (10–30) | 50 requests/s (50–60) | 2.5 (2–5) |  |',
    );
  });

  it('marks where Cistern is behind in every round, and where rounds do not agree', () => {
    expect(lineOf(table, 'start')).toMatch(/\| 3 \(2–4\) \| ✗ behind \|$/);
    expect(lineOf(table, 'HEAD')).toMatch(/\| 1 \(0\.9–1\.2\) \| ≈ even \|$/);
  });

  it('says the same in words', () => {
    expect(table).toMatch(
      /\n\nSlower or larger here: start\. Now ahead, now behind, from round to round: HEAD\.$/,
    );
    expect(tableOf([rowOf(faster)], 'registry')).toMatch(
      /\n\nCistern is slower or larger than registry nowhere\.$/,
    );
  });

  it('has a short form without details, but never without a row where Cistern is behind', () => {
    const detail = { detail: true };
    const rows = [faster, { ...even, ...detail }, { ...slower, ...detail }].map(rowOf);
    const short = shortTableOf(rows, 'registry');
    expect(lineOf(short, 'GET')).toBe('| GET | more | 20 requests/s | 50 requests/s | 2.5 (2–5) |  |');
    expect(lineOf(short, 'HEAD')).toBeUndefined();
    expect(lineOf(short, 'start')).toContain('✗ behind');
  });
});
