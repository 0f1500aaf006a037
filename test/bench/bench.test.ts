import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { checkOut, hasScenario } from '../../bench/checkout.js';
import { replaceBlock } from '../../bench/publish.js';
import { leastRounds } from '../../bench/verdict.js';
import { growthTable, holds, type Line } from '../../bench/growth-table.js';
import { slopeOf } from '../../bench/slope.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { runProcess } from '../parts/process.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const node = join(checkout, 'node_modules', '.bin', 'node');

function bench(...args: string[]) {
  return run('run.ts', ...args);
}

function run(file: string, ...args: string[]) {
  return runProcess(node, [join(checkout, 'bench', file), ...args], { cwd: checkout });
}

describe.skipIf(lacks('docker-registry', 'wrk', 'hey', 'openssl'))('the benchmark', () => {
  it('prints a table with a row for each measure, and writes the same as JSON', async () => {
    await using folder = await temporaryFolder();
    const json = join(folder.path, 'results.json');
    const { code, stdout, stderr } = await bench('--quick', '--only', 'manifest-by-digest', '--json', json);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(/^\| \| better \| docker-registry \d\S* \| Cistern \| Cistern ÷ registry \| \|$/m);
    expect(stdout).toMatch(
      /^\| GET manifest by digest, cached \| more \| [\d.,]+ requests\/s \([\d.,]+–[\d.,]+\) \| [\d.,]+ requests\/s \([\d.,]+–[\d.,]+\) \| [\d.]+ \([\d.]+–[\d.]+\) \|.*\|$/m,
    );
    const { machine, rows } = JSON.parse(await readFile(json, 'utf8'));
    expect(machine).toMatchObject({ node: process.version, cores: expect.any(Number) });
    const twice = [expect.any(Number), expect.any(Number)];
    const row = expect.objectContaining({ peer: twice, cistern: twice, ratio: expect.any(Number) });
    expect(rows).toEqual([row, row]); // the rate, and the processor time
    expect(rows[0].ratio).toBeCloseTo(rows[0].summary.cistern.median / rows[0].summary.peer.median);
  });

  it('refuses a scenario that it does not have, and names those that it has', async () => {
    const { code, stderr } = await bench('--only', 'nonsense');
    expect(code).toBe(1);
    expect(stderr).toContain('there is no scenario nonsense');
    expect(stderr).toContain('manifest-by-tag');
  });
});

describe.skipIf(lacks('docker-registry', 'wrk', 'hey', 'openssl'))('a profile of a scenario', () => {
  it('says what share of the time and of the allocations each module has', async () => {
    const { code, stdout, stderr } = await run('profile.ts', 'manifest-by-digest', '--quick');
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(stdout).toMatch(/^- [\d,]+ requests, [\d,.]+ MB, in [\d.]+ s$/m);
    expect(stdout).toMatch(/^- event loop late: median [\d.]+ ms, p99 [\d.]+ ms, at most [\d,.]+ ms$/m);
    const [time = '', allocation = ''] = stdout.split('### ').slice(1);
    for (const part of [time, allocation]) expect(part).toMatch(/^\| src\/registry \| [\d.]+ % \|$/m);
    const folder = /developer tools, are in (.*)$/m.exec(stderr)?.[1] ?? '';
    const kinds = (await readdir(folder)).map((name) => name.replace(/^\d+\./, ''));
    expect(kinds.toSorted()).toEqual(['cpuprofile', 'facts', 'heapprofile']);
    await rm(folder, { recursive: true });
  });

  it('is of one scenario that there is', async () => {
    expect(await run('profile.ts')).toMatchObject({ code: 1, stderr: expect.stringContaining('SCENARIO') });
    const { code, stderr } = await run('profile.ts', 'nonsense');
    expect(code).toBe(1);
    expect(stderr).toContain('there is no scenario nonsense');
  });
});

describe.skipIf(!existsSync(join(checkout, '.git')))('a checkout of another commit', () => {
  const never = new AbortController().signal;

  it('has the files of that commit, and leaves nothing behind', async () => {
    const worktrees = () => runProcess('git', ['worktree', 'list'], { cwd: checkout });
    let folder: string;
    {
      await using other = await checkOut('HEAD', never);
      folder = other.path;
      expect(existsSync(join(folder, 'scripts/prepare.mjs'))).toBe(true);
      expect((await worktrees()).stdout).toContain(folder);
      expect(await hasScenario(other, 'manifest-by-tag', never)).toBe(true);
      expect(await hasScenario(other, 'nonsense', never)).toBe(false);
    }
    expect(existsSync(folder)).toBe(false);
    expect((await worktrees()).stdout).not.toContain(folder);
  });

  it('is refused where git knows no such commit', async () => {
    await expect(checkOut('--no-such-thing', never)).rejects.toMatchObject({ code: 'cannot-measure' });
  });
});

describe.skipIf(lacks('docker-registry', 'wrk', 'hey', 'openssl'))('a comparison with a base', () => {
  it('wants a base, and enough rounds to be sure of anything', async () => {
    const { code, stderr } = await run('branch.ts', 'main', '--rounds', '3');
    expect(code).toBe(1);
    expect(stderr).toContain('usage: npm run bench:compare -- BASE');
    expect(stderr).toContain(`at least ${leastRounds}`);
  });
});

describe('its results', () => {
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
    const pageOf = (name: string) => readFile(join(checkout, name), 'utf8');
    const benchmarks = await pageOf('docs/benchmarks.md');
    for (const marks of ['bench', 'cluster-herds', 'cluster-costs', 'growth', 'bench-s3']) {
      expect(replaceBlock(benchmarks, '', marks)).toBeDefined();
    }
    expect(replaceBlock(await pageOf('README.md'), '', 'bench-short')).toBeDefined();
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
