import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const root = new URL('../', import.meta.url);
const page = readFileSync(new URL('docs/security.md', root), 'utf8');
const promises = page
  .slice(page.indexOf('\n## Promises'), page.indexOf('\n## `verifycaller`'))
  .split('\n')
  .filter((line) => line.startsWith('|'))
  .slice(2);

function testsIn(text: string): string[] {
  return [...text.matchAll(/`((?:src|test)\/[^`]+\.(?:spec|test)\.ts)`/g)].map(([, path = '']) => path);
}

describe('the page about security', () => {
  it('names a test for each promise', () => {
    expect(promises.length).toBeGreaterThan(15);
    expect(promises.filter((row) => testsIn(row).length === 0)).toEqual([]);
  });

  it('names tests that are there', () => {
    expect(testsIn(page).filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
  });
});
