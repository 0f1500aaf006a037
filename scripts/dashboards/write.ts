// Writes deploy/grafana/*.json from contents.ts beside it: node scripts/dashboards/write.ts
import { writeFileSync } from 'node:fs';
import type * as contentsModule from './contents.ts';
import type { Dashboard, Panel } from './contents.ts';

/** Of Grafana 12. */
const schemaVersion = 41;
const datasource = { type: 'prometheus', uid: '${datasource}' };
const columns = 24;

export interface DashboardFile {
  readonly name: string;
  readonly json: string;
}

/** The dashboards as Grafana takes them in. */
export function dashboardFiles(dashboards: readonly Dashboard[]): DashboardFile[] {
  return dashboards.map((dashboard) => ({
    name: `cistern-${dashboard.name}.json`,
    json: `${JSON.stringify(grafana(dashboard), undefined, 2)}\n`,
  }));
}

function grafana({ name, title, description, rows }: Dashboard) {
  return {
    uid: `cistern-${name}`,
    title,
    description,
    tags: ['cistern'],
    schemaVersion,
    version: 1,
    editable: true,
    graphTooltip: 1,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    links: [
      {
        type: 'dashboards',
        title: 'Cistern',
        tags: ['cistern'],
        asDropdown: true,
        keepTime: true,
        includeVars: true,
      },
    ],
    templating: { list: variables() },
    annotations: { list: [] },
    panels: placed(rows),
  };
}

function variables() {
  const labels = (query: string) => ({ definition: query, query: { query, refId: 'labels' } });
  const list = { type: 'query', datasource, refresh: 2, sort: 1, includeAll: true, multi: true };
  const all = { selected: true, text: ['All'], value: ['$__all'] };
  return [
    { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', current: {} },
    {
      name: 'job',
      label: 'Mirror',
      ...list,
      allValue: '.+',
      current: all,
      ...labels('label_values(cistern_build_info, job)'),
    },
    {
      name: 'instance',
      label: 'Replica',
      ...list,
      allValue: '.+',
      current: all,
      ...labels('label_values(cistern_build_info{job=~"$job"}, instance)'),
    },
  ];
}

/** Rows one below the other; single numbers in lines of six, courses in lines of three. */
function placed(rows: Dashboard['rows']): object[] {
  const panels: object[] = [];
  let id = 0;
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: (id += 1),
      type: 'row',
      title: row.title,
      collapsed: false,
      gridPos: { x: 0, y, w: columns, h: 1 },
      panels: [],
    });
    y += 1;
    let x = 0;
    for (const panel of row.panels) {
      const [w, h] = panel.single === true ? [4, 4] : [8, 8];
      panels.push({ id: (id += 1), ...shown(panel), gridPos: { x, y, w, h } });
      x += w;
      if (x < columns && panel !== row.panels.at(-1)) continue;
      x = 0;
      y += h;
    }
  }
  return panels;
}

function shown({ title, description, unit, single, stacked, queries }: Panel) {
  const custom = { drawStyle: 'line', lineWidth: 1, showPoints: 'never', spanNulls: false };
  const stacking = { fillOpacity: 40, stacking: { mode: 'normal', group: 'A' } };
  const course = { fillOpacity: 5, stacking: { mode: 'none', group: 'A' } };
  return {
    type: single === true ? 'stat' : 'timeseries',
    title,
    description,
    datasource,
    fieldConfig: {
      defaults: {
        unit,
        min: 0,
        ...(single === true ? {} : { custom: { ...custom, ...(stacked === true ? stacking : course) } }),
      },
      overrides: [],
    },
    options:
      single === true
        ? {
            reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
            colorMode: 'none',
            graphMode: 'area',
          }
        : {
            legend: { displayMode: 'list', placement: 'bottom', showLegend: true },
            tooltip: { mode: 'multi', sort: 'desc' },
          },
    targets: queries.map(([expression, legendFormat], index) => ({
      refId: String.fromCodePoint(65 + index),
      datasource,
      expr: expression
        .replaceAll('$S', 'job=~"$job",instance=~"$instance"')
        .replaceAll('$R', '$__rate_interval'),
      legendFormat,
      range: true,
    })),
  };
}

async function write(): Promise<void> {
  const contents = new URL('contents.ts', import.meta.url).href;
  const { dashboards } = (await import(contents)) as typeof contentsModule;
  for (const { name, json } of dashboardFiles(dashboards)) {
    writeFileSync(new URL(`../../deploy/grafana/${name}`, import.meta.url), json);
  }
}

if (import.meta.main) await write();
