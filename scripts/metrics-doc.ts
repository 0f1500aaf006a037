// Writes docs/metrics.md from the metrics themselves: npm run build && node scripts/metrics-doc.ts
import { writeFileSync } from 'node:fs';
import type { Registry } from 'prom-client';
import type * as metricsModule from '../src/telemetry/metrics.ts';

export interface MetricFacts {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
}

const introduction = `<!-- Written by scripts/metrics-doc.ts from src/telemetry/metrics.ts: change that. -->

# Metrics

Prometheus' text format, on \`http.debug.addr\` at \`http.debug.prometheus.path\` (\`/metrics\`). No label takes a value that
clients choose: \`upstream\` is a configured host, \`handler\`, \`method\`, \`result\` and the like are words from short lists. A
counter of a configured upstream or of a job begins at zero with the process, so its first increase is seen.

[Dashboards](../deploy/grafana), [alerts](../deploy/prometheus/rules.yml) and [what to do about them](runbooks/README.md).
The hit ratio of content: \`sum(rate(registry_proxy_hits_total[5m])) / sum(rate(registry_proxy_requests_total[5m]))\`.
`;

const sections = [
  { title: 'Ours', text: '', prefix: /^cistern_/ },
  {
    title: "Registry's",
    text: 'Names and labels of registry:2 (2.8) and registry:3: existing dashboards keep working.\n',
    prefix: /^registry_/,
  },
  {
    title: "The process's",
    text: 'As every Node.js program with `prom-client` has them.\n',
    prefix: /^(?:process|nodejs)_/,
  },
] as const;

/** All that a process tells. */
export function factsOf(registry: Registry): MetricFacts[] {
  return registry.getMetricsAsArray().map((metric) => {
    const { name, type, help, labelNames } = metric as typeof metric & { labelNames: readonly string[] };
    return { name, type: String(type), labels: labelNames, help };
  });
}

/** The whole page. */
export function metricsPage(registry: Registry): string {
  const metrics = factsOf(registry);
  const parts = sections.flatMap(({ title, text, prefix }) => [
    `## ${title}\n`,
    ...(text === '' ? [] : [text]),
    table(metrics.filter(({ name }) => prefix.test(name))),
  ]);
  return [introduction, ...parts].join('\n');
}

function table(metrics: readonly MetricFacts[]): string {
  const rows = metrics
    .toSorted((one, other) => one.name.localeCompare(other.name, 'en'))
    .map(({ name, type, labels, help }) => [
      `\`${name}\``,
      type,
      labels.map((label) => `\`${label}\``).join(', '),
      help.replaceAll('|', '\\|'),
    ]);
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const head = ['metric', 'type', 'labels', 'meaning'];
  return [line(head), line(head.map(() => '---')), ...rows.map(line), ''].join('\n');
}

async function write(): Promise<void> {
  const built = new URL('../dist/telemetry/metrics.js', import.meta.url).href;
  const { Metrics } = (await import(built)) as typeof metricsModule;
  writeFileSync(new URL('../docs/metrics.md', import.meta.url), metricsPage(new Metrics().registry));
}

if (import.meta.main) await write();
