import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { growthTable, holds, type Line } from '../../bench/growth-table.js';
import { replaceBlock } from '../../bench/publish.js';
import { slopeOf } from '../../bench/slope.js';
import { summarize } from '../../bench/statistics.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { runProcess } from '../parts/process.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const node = join(checkout, 'node_modules', '.bin', 'node');

function bench(...args: string[]) {
  return runProcess(node, [join(checkout, 'bench', 'run.ts'), ...args], { cwd: checkout });
}

describe.skipIf(lacks('docker-registry', 'wrk', 'hey', 'openssl'))('the benchmark', () => {
  it('prints a table with a row for each measure, and writes the same as JSON', async () => {
    await using folder = await temporaryFolder();
    const json = join(folder.path, 'results.json');
    const { code, stdout, stderr } = await bench('--quick', '--only', 'manifest-by-digest', '--json', json);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(/^\| \| better \| docker-registry \d\S* \| Cistern \| Cistern ÷ registry \|$/m);
    expect(stdout).toMatch(
      /^\| GET manifest by digest, cached \| more \| [\d.,]+ requests\/s \([\d.,]+–[\d.,]+\) \| [\d.,]+ requests\/s \([\d.,]+–[\d.,]+\) \| [\d.]+ \|$/m,
    );
    const { machine, rows } = JSON.parse(await readFile(json, 'utf8'));
    expect(machine).toMatchObject({ node: process.version, cores: expect.any(Number) });
    expect(rows).toEqual([
      expect.objectContaining({
        peer: [expect.any(Number), expect.any(Number)],
        cistern: [expect.any(Number), expect.any(Number)],
        ratio: expect.any(Number),
      }),
    ]);
    expect(rows[0].ratio).toBeCloseTo(rows[0].summary.cistern.median / rows[0].summary.peer.median);
  });

  it('refuses a scenario that it does not have, and names those that it has', async () => {
    const { code, stderr } = await bench('--only', 'nonsense');
    expect(code).toBe(1);
    expect(stderr).toContain('there is no scenario nonsense');
    expect(stderr).toContain('manifest-by-tag');
  });
});

describe('its results', () => {
  it('are summed up by the median and both ends', () => {
    expect(summarize([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
    expect(summarize([4, 1, 2, 10])).toEqual({ median: 3, min: 1, max: 10 });
  });

  it('take the place of what stands between the marks of a page, and of nothing else', () => {
    const page = 'before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n';
    expect(replaceBlock(page, 'new')).toBe(
      'before\n<!-- bench:begin -->\n\nnew\n\n<!-- bench:end -->\nafter\n',
    );
    expect(replaceBlock('no marks', 'new')).toBeUndefined();
  });

  it('have a place each on the same page', () => {
    const page =
      '<!-- bench:begin -->\nold\n<!-- bench:end -->\n<!-- growth:begin -->\nold\n<!-- growth:end -->\n';
    expect(replaceBlock(page, 'new', 'growth')).toBe(
      '<!-- bench:begin -->\nold\n<!-- bench:end -->\n<!-- growth:begin -->\n\nnew\n\n<!-- growth:end -->\n',
    );
  });

  it('have a place in the pages that show them', async () => {
    for (const page of ['README.md', 'docs/benchmarks.md'].map((name) => join(checkout, name))) {
      expect(replaceBlock(await readFile(page, 'utf8'), '')).toBeDefined();
    }
  });
});

describe('growth', () => {
  const line = (values: Line['values'], limit?: Line['limit']): Line => ({
    title: 'a request',
    unit: 'µs',
    values,
    ...(limit === undefined ? {} : { limit }),
  });

  it('is that of the largest store over the smallest, by medians', () => {
    const values = [
      [40, 50, 1000],
      [1, 1, 1],
      [70, 75, 900],
    ];
    expect(holds(line(values, { factor: 1.5 }))).toBe(true);
    expect(holds(line(values, { factor: 1.4 }))).toBe(false);
    expect(holds(line(values))).toBe(true);
  });

  it('is limited at every size where there is a limit to the value itself', () => {
    expect(holds(line([[150], [199], [180]], { below: 200 }))).toBe(true);
    expect(holds(line([[150], [200], [180]], { below: 200 }))).toBe(false);
  });

  it('is no growth where nothing was measured', () => {
    expect(holds(line([[], [5]], { factor: 2 }))).toBe(false);
    expect(holds(line([[5], []], { below: 200 }))).toBe(false);
  });

  it('is told in a table, with what was exceeded', () => {
    expect(growthTable([1_000, 1_000_000], [line([[40], [60.04]], { factor: 1.4 })])).toBe(
      [
        '| known descriptors | 1,000 | 1,000,000 | × | allowed |',
        '|---|---:|---:|---:|---:|',
        '| a request | 40 µs | 60 µs | 1.50 | × 1.4 **exceeded** |',
      ].join('\n'),
    );
  });
});

describe('a slope', () => {
  it('is what all points say together', () => {
    expect(
      slopeOf([
        [0, 100],
        [1, 104],
        [2, 103],
        [3, 107],
      ]),
    ).toBeCloseTo(2);
  });

  it('is none where nothing grows', () => {
    expect(
      slopeOf([
        [0, 5],
        [1, 5],
        [2, 5],
      ]),
    ).toBe(0);
  });
});
