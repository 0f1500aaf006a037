import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { factsOf, metricsPage } from '../../scripts/metrics-doc.js';
import { Metrics } from '../../src/telemetry/metrics.js';

const { registry } = new Metrics();

it('docs/metrics.md is what the code has (scripts/metrics-doc.ts writes it)', async () => {
  const page = await readFile(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  expect(page).toBe(metricsPage(registry));
});

it('tells of every metric what it means, and names it as Prometheus advises', () => {
  const facts = factsOf(registry);
  expect(facts.length).toBeGreaterThan(60);
  const own = facts.filter(({ name }) => name.startsWith('cistern_'));
  const poor = own.filter(
    ({ name, type, help }) =>
      !/^[A-Z0-9].*\.$/.test(help) || (type === 'counter') !== name.endsWith('_total'),
  );
  expect(poor.map(({ name }) => name)).toEqual([]);
});
