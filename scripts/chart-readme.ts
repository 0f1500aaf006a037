import { cpSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isMap, isScalar, parseDocument, type Pair, type YAMLMap } from 'yaml';

/** Writes helm/cistern/README.md from values.yaml, and the chart's copies of dashboards and alerts. */

const introduction = `# The chart

<!-- Generated from values.yaml by scripts/chart-readme.ts: do not edit. -->

Cistern on Kubernetes 1.27 or later: [getting started](../../docs/getting-started/kubernetes.md) has what to type, this
page has every value.

\`config\` takes every key of the [configuration](../../docs/configuration.md); what the other values say is written into
the same file, and the chart decides what its Services and probes rely on (\`http.addr\`, \`http.debug.addr\`,
\`cluster.addr\`, where the storage is mounted). Values that do not fit together, and passwords in \`config\`, are refused
with a message that says what to do instead.

Everything runs under the \`restricted\` profile of Pod Security: not as root, with a read-only root file system and
without any right. The exception is the DaemonSet of \`nodes\`, which is off unless asked for. The service account has no
token and no rights, unless \`config.proxy.pullsecrets\` or \`config.scheduler.inuse.kubernetes\` ask Kubernetes: then it
may read those Secrets, and list Pods, and nothing else.

| value | default | meaning |
| --- | --- | --- |
`;

interface Row {
  readonly path: string;
  readonly value: string;
  readonly meaning: string;
}

/** The page, from the text of values.yaml. */
export function chartPage(values: string): string {
  const { contents } = parseDocument(values);
  if (!isMap(contents)) throw new Error('values.yaml is not a map');
  const rows = rowsOf(contents, '').map(
    ({ path, value, meaning }) => `| \`${path}\` | ${value} | ${meaning.replaceAll('|', String.raw`\|`)} |`,
  );
  return `${introduction}${rows.join('\n')}\n`;
}

/** A map with a comment, or with more in it, has rows for what is in it; a short one is a value. */
function rowsOf(map: YAMLMap, prefix: string): Row[] {
  return map.items.flatMap((pair, index) => {
    const { key, value } = pair as Pair;
    if (!isScalar(key)) throw new Error('a key that is not a name');
    const path = `${prefix}${String(key.value)}`;
    // What stands before a map's first key, the parser gives to the map.
    const comment = (index === 0 ? map.commentBefore : undefined) ?? key.commentBefore ?? '';
    const meaning = comment
      .split('\n')
      .map((line) => line.trim())
      .join(' ')
      .trim();
    if (!isMap(value) || value.flow === true) {
      const shown = JSON.stringify(value === null ? null : (value as { toJSON(): unknown }).toJSON());
      return [{ path, value: shown === '""' ? '' : `\`${shown}\``, meaning }];
    }
    const inside = rowsOf(value, `${path}.`);
    return meaning === '' ? inside : [{ path, value: '', meaning }, ...inside];
  });
}

export const chart = fileURLToPath(new URL('../helm/cistern/', import.meta.url));
export const deploy = fileURLToPath(new URL('../deploy/', import.meta.url));

/** What the chart has copies of: a chart is packed without what is beside it. */
export function copies(): readonly { readonly from: string; readonly to: string }[] {
  const dashboards = readdirSync(`${deploy}grafana`).filter((name) => name.endsWith('.json'));
  return [
    { from: `${deploy}prometheus/rules.yml`, to: `${chart}files/rules.yml` },
    ...dashboards.map((name) => ({
      from: `${deploy}grafana/${name}`,
      to: `${chart}files/dashboards/${name}`,
    })),
  ];
}

function write(): void {
  writeFileSync(`${chart}README.md`, chartPage(readFileSync(`${chart}values.yaml`, 'utf8')));
  rmSync(`${chart}files/dashboards`, { recursive: true, force: true });
  for (const { from, to } of copies()) cpSync(from, to);
}

if (import.meta.main) write();
