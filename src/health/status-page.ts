import type { Problems } from '../scheduler/job.js';
import type { Status } from './status.js';

/** The status as a page without scripts, that a browser loads again by itself. */
export function statusPage(status: Status): string {
  const { version, node, started, ready, failing, upstreams, transfers, spool, cluster, storage, jobs } =
    status;
  const facts = [
    ['version', `${version}, Node.js ${node}`],
    ['started', started],
    ['ready', ready ? 'yes' : 'no'],
    ...Object.entries(failing).map(([check, why]) => [`check ${check}`, why]),
    ['cluster', cluster === undefined ? 'alone' : (cluster.address ?? 'not reachable by others yet')],
    ...Object.entries(cluster?.redis ?? {}).map(([connection, state]) => [`redis, ${connection}`, state]),
    [
      'storage',
      `${storage.driver}: ${storage.blobs} blobs, ${sizeText(storage.bytes)}${ofLimit(storage.limit)}`,
    ],
    ['spool', `${sizeText(spool.bytes)}${ofLimit(spool.limit)}`],
  ];
  return [
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="10">',
    '<title>Cistern: status</title><style>',
    'body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em;color-scheme:light dark}',
    'table{border-collapse:collapse;margin:0 0 1.5em}td,th{padding:.15em 1em .15em 0;text-align:left;vertical-align:top}',
    '</style></head><body><h1>Cistern</h1>',
    table([], facts),
    '<h2>Upstreams</h2>',
    table(
      ['host', 'asked', 'pulls left'],
      upstreams.map(({ host, breaker, pullsLeft, pullLimit }) => [
        host,
        breakerText[breaker],
        pullsLeft === undefined ? 'no limit told' : `${pullsLeft} of ${pullLimit}`,
      ]),
    ),
    `<h2>Transfers: ${transfers.length}</h2>`,
    table(
      ['digest', 'here', 'of'],
      transfers.map(({ digest, bytes, size }) => [
        digest,
        sizeText(bytes),
        size === undefined ? '?' : sizeText(size),
      ]),
    ),
    '<h2>Jobs</h2>',
    typeof jobs === 'string'
      ? `<p>${escaped(jobs)}</p>`
      : table(
          ['job', 'last run', 'ended', 'next', 'by', 'error', 'problems'],
          jobs.map(({ name, outcome, ended, next, runner, error, problems }) => [
            name,
            outcome ?? 'never',
            ended ?? '',
            next ?? 'never',
            runner ?? '',
            error ?? '',
            problemsText(problems),
          ]),
        ),
    '</body></html>\n',
  ].join('\n');
}

function problemsText(problems: Problems | undefined): string {
  if (problems === undefined) return '';
  const told = problems.first.map(({ subject, message }) => `${subject}: ${message}`);
  return `${problems.count}: ${told.join('; ')}`;
}

const breakerText = {
  closed: 'yes',
  open: 'no: it failed too often',
  'half-open': 'one request tries',
} as const;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: 'td' | 'th', row: readonly string[]): string =>
    `<tr>${row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;
  if (rows.length === 0) return '<p>None.</p>';
  const first = head.length === 0 ? '' : cells('th', head);
  return `<table>${first}${rows.map((row) => cells('td', row)).join('')}</table>`;
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);
}

function ofLimit(limit: number | undefined): string {
  return limit === undefined ? '' : ` of ${sizeText(limit)}`;
}

function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
