import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const root = new URL('../../', import.meta.url);
const read = (page: string) => readFileSync(new URL(page, root), 'utf8');

const pages = [
  'docs/guides.md',
  'docs/failure-modes.md',
  'docs/upgrades.md',
  'docs/backup.md',
  'docs/migrating/registry-2.md',
  'docs/migrating/harbor.md',
];

const namedFiles = (text: string): string[] =>
  [...text.matchAll(/`((?:src|test|bench)\/[^`]+)`/g)].map(([, path = '']) => path);

describe.each(pages)('%s', (page) => {
  it('names tests, and they are there', () => {
    const files = namedFiles(read(page));
    expect(files).not.toEqual([]);
    expect(files.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
  });
});

describe('the failure modes', () => {
  it('name what shows each of them', () => {
    const rows = read('docs/failure-modes.md')
      .split('\n')
      .filter((line) => line.startsWith('| ') && !/^\| (?:what dies|---)/.test(line));
    expect(rows.length).toBeGreaterThan(20);
    expect(rows.filter((row) => namedFiles(row).length === 0)).toEqual([]);
  });
});
