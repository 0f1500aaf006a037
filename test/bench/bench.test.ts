import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { replaceBlock } from '../../bench/publish.js';
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
    const other = '<!-- other:begin -->\n<!-- other:end -->\n';
    expect(replaceBlock(`${page}${other}`, 'new', 'other')).toBe(
      `${page}<!-- other:begin -->\n\nnew\n\n<!-- other:end -->\n`,
    );
  });

  it('have a place in the pages that show them', async () => {
    for (const page of ['README.md', 'docs/benchmarks.md'].map((name) => join(checkout, name))) {
      expect(replaceBlock(await readFile(page, 'utf8'), '')).toBeDefined();
    }
    const benchmarks = await readFile(join(checkout, 'docs', 'benchmarks.md'), 'utf8');
    for (const marks of ['cluster-herds', 'cluster-costs']) {
      expect(replaceBlock(benchmarks, '', marks)).toBeDefined();
    }
  });
});
