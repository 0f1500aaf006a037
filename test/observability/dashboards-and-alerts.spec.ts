import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { dashboards as described } from '../../scripts/dashboards/contents.js';
import { dashboardFiles } from '../../scripts/dashboards/write.js';
import { factsOf } from '../../scripts/metrics-doc.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { type DashboardJson, queriesOf } from './queries.js';

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert: string;
      readonly expr: string;
      readonly labels: { readonly severity: string };
      readonly annotations: Readonly<Record<string, string>>;
    }[];
  }[];
}

function at(path: string): URL {
  return new URL(`../../${path}`, import.meta.url);
}

const read = (path: string): string => readFileSync(at(path), 'utf8');
const alerts = (parse(read('deploy/prometheus/rules.yml')) as Rules).groups.flatMap(({ rules }) => rules);
const dashboards = dashboardFiles(described).map(({ json }) => JSON.parse(json) as DashboardJson);

/** Every sample's name that a replica may tell. */
const samples = new Set(
  factsOf(new Metrics().registry).flatMap(({ name, type }) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
);

function shownIn({ panels }: Pick<DashboardJson, 'panels'>): DashboardJson['panels'] {
  return panels.filter(({ type }) => type !== 'row');
}

function metricsIn(expression: string): string[] {
  return expression.match(/\b(?:cistern|registry|process|nodejs)_[a-z0-9_]+/g) ?? [];
}

describe('dashboards', () => {
  it('are as they are described (npm run docs writes them)', () => {
    const files = readdirSync(at('deploy/grafana')).toSorted();
    expect(files).toEqual(
      dashboardFiles(described)
        .map(({ name }) => name)
        .toSorted(),
    );
    for (const { name, json } of dashboardFiles(described)) expect(read(`deploy/grafana/${name}`)).toBe(json);
  });

  it('ask only for metrics that there are', () => {
    const used = dashboards.flatMap((each) => queriesOf(each)).flatMap(({ expr }) => metricsIn(expr));
    expect(used.length).toBeGreaterThan(50);
    expect(used.filter((name) => !samples.has(name))).toEqual([]);
  });

  it('say in each panel what it shows, in which unit, from the chosen source and replicas', () => {
    for (const { panels, title } of dashboards) {
      const shown = shownIn({ panels });
      expect({ title, names: new Set(shown.map((panel) => panel.title)).size }).toEqual({
        title,
        names: shown.length,
      });
      const poor = shown.filter(
        ({ description, fieldConfig, datasource }) =>
          !description || fieldConfig?.defaults.unit === undefined || datasource?.uid !== '${datasource}',
      );
      expect(poor.map((panel) => panel.title)).toEqual([]);
    }
    const unbound = dashboards
      .flatMap((each) => queriesOf(each))
      .filter(
        ({ expr }) => metricsIn(expr).length !== expr.split('{job=~"$job",instance=~"$instance"').length - 1,
      );
    expect(unbound).toEqual([]);
  });
});

describe('alerts', () => {
  it('ask only for metrics that there are', () => {
    const used = alerts.flatMap(({ expr }) => metricsIn(expr));
    expect(used.length).toBeGreaterThan(20);
    expect(used.filter((name) => !samples.has(name))).toEqual([]);
  });

  it('have a severity, and each a page of its own that says what to do', () => {
    const pages = readdirSync(at('docs/runbooks')).filter((name) => name !== 'README.md');
    expect(pages.toSorted()).toEqual(alerts.map(({ alert }) => `${alert}.md`).toSorted());
    for (const { alert, labels, annotations } of alerts) {
      expect(['critical', 'warning']).toContain(labels.severity);
      expect(annotations['runbook_url']).toBe(`docs/runbooks/${alert}.md`);
      const page = read(`docs/runbooks/${alert}.md`);
      for (const part of [`# ${alert}`, '**What users notice.**', '**Where to look.**', '**What to do.**']) {
        expect(page).toContain(part);
      }
    }
  });

  it('are each tried by a case', () => {
    const cases = read('deploy/prometheus/rules.test.yml');
    expect(alerts.filter(({ alert }) => !cases.includes(`alertname: ${alert}\n`))).toEqual([]);
  });

  it('and the pages name panels that there are', () => {
    const titles = new Set(dashboards.flatMap((each) => shownIn(each).map(({ title }) => title)));
    const named = readdirSync(at('docs/runbooks')).flatMap((name) =>
      [...read(`docs/runbooks/${name}`).matchAll(/\bPanels? ((?:_[^_]+_(?:,| and)? ?)+)/gi)].flatMap(
        ([, list = '']) => [...list.matchAll(/_([^_]+)_/g)].map(([, title = '']) => title),
      ),
    );
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((title) => !titles.has(title.replaceAll(/\s+/g, ' ')))).toEqual([]);
  });
});
