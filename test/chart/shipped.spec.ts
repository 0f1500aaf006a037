import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { chart, chartPage, copies } from '../../scripts/chart-readme.js';

interface SchemaPart {
  readonly properties?: Readonly<Record<string, SchemaPart>>;
}

function pathsOf(part: SchemaPart, prefix = ''): string[] {
  return Object.entries(part.properties ?? {}).flatMap(([key, inside]) => [
    `${prefix}${key}`,
    ...pathsOf(inside, `${prefix}${key}.`),
  ]);
}

function hasPath(value: unknown, [key, ...rest]: readonly string[]): boolean {
  if (key === undefined) return true;
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return false;
  return hasPath((value as Record<string, unknown>)[key], rest);
}

describe('the chart as it is shipped', () => {
  it('has a page with every value (scripts/chart-readme.ts writes it)', async () => {
    const page = chartPage(await readFile(`${chart}values.yaml`, 'utf8'));
    expect(await readFile(`${chart}README.md`, 'utf8')).toBe(page);
  });

  it('has the alerts and dashboards of deploy (scripts/chart-readme.ts copies them)', async () => {
    for (const { from, to } of copies())
      expect(await readFile(to, 'utf8')).toBe(await readFile(from, 'utf8'));
  });

  it('has a default, and so a line on its page, for every value that the schema knows', async () => {
    const schema = JSON.parse(await readFile(`${chart}values.schema.json`, 'utf8')) as SchemaPart;
    const values = parse(await readFile(`${chart}values.yaml`, 'utf8')) as object;
    const optional = ['global', '.claims', '.timeouts.', 'resources.', 'Resources.'];
    const missing = pathsOf(schema).filter((path) => !optional.some((part) => path.includes(part)));
    expect(missing.filter((path) => !hasPath(values, path.split('.')))).toEqual([]);
  });

  it('is for this version', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
    const about = await readFile(`${chart}Chart.yaml`, 'utf8');
    expect(about).toContain(`\nversion: ${version}\n`);
    expect(about).toContain(`\nappVersion: ${version}\n`);
  });
});
