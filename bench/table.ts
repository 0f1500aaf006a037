import type { Measure } from './scenario.js';
import { ratiosOf, summarize, type Summary } from './statistics.js';

/** `even`: now the one is ahead, now the other. */
type Standing = 'ahead' | 'even' | 'behind';

/** A measure with what the table says of it. */
export interface Row extends Measure {
  readonly summary: { readonly peer: Summary; readonly cistern: Summary };
  /** Cistern's median over the peer's. */
  readonly ratio: number;
  /** Cistern's turn over the peer's, round by round. */
  readonly ratios: Summary;
  readonly standing: Standing;
}

export function rowOf(measure: Measure): Row {
  const { peer, cistern, better } = measure;
  const summary = { peer: summarize(peer), cistern: summarize(cistern) };
  const ratios = summarize(ratiosOf(cistern, peer));
  const ratio = summary.cistern.median / summary.peer.median;
  const more = summarize(cistern.map((value, round) => value - (peer[round] ?? Number.NaN)));
  return { ...measure, summary, ratio, ratios, standing: standingOf(more, better) };
}

function standingOf({ min, max }: Summary, better: Measure['better']): Standing {
  if (min <= 0 && max >= 0) return 'even';
  return min > 0 === (better === 'more') ? 'ahead' : 'behind';
}

/** In Markdown: two builds side by side. */
export function tableOfBuilds(measures: readonly Measure[], first: string, second: string): string {
  const median = (values: readonly number[], unit: string): string =>
    withUnit(summarize(values).median, unit);
  return [
    `| | ${first} | ${second} |`,
    '|---|---:|---:|',
    ...measures.map(({ title, unit, peer, cistern }) => {
      return `| ${title} | ${median(peer, unit)} | ${median(cistern, unit)} |`;
    }),
  ].join('\n');
}

/** In Markdown: medians, each with its lowest and highest turn. */
export function tableOf(rows: readonly Row[], peerTitle: string): string {
  return tableWith(rows, peerTitle, ({ median, min, max }, unit) => {
    return `${withUnit(median, unit)} (${quantity(min)}–${quantity(max)})`;
  });
}

/** The same in short: medians alone, and no rows of detail but where Cistern is behind. */
export function shortTableOf(rows: readonly Row[], peerTitle: string): string {
  const short = rows.filter(({ detail, standing }) => detail !== true || standing === 'behind');
  return tableWith(short, peerTitle, ({ median }, unit) => withUnit(median, unit));
}

function tableWith(
  rows: readonly Row[],
  peerTitle: string,
  cell: (summary: Summary, unit: string) => string,
): string {
  return [
    `| | better | ${peerTitle} | Cistern | Cistern ÷ registry | |`,
    '|---|---|---:|---:|---:|---|',
    ...rows.map(({ title, unit, better, summary, ratio, ratios, standing }) => {
      const isRatio = Math.min(summary.peer.min, summary.cistern.min) > 0; // no difference of two times
      const spread = isRatio ? `${quantity(ratio)} (${quantity(ratios.min)}–${quantity(ratios.max)})` : '–';
      const cells = [cell(summary.peer, unit), cell(summary.cistern, unit), spread, marks[standing]];
      return `| ${title} | ${better} | ${cells.join(' | ')} |`;
    }),
    '',
    standings(rows),
  ].join('\n');
}

const marks: Readonly<Record<Standing, string>> = { ahead: '', even: '≈ even', behind: '✗ behind' };

/** Where Cistern is not ahead, in words. */
function standings(rows: readonly Row[]): string {
  const titles = (wanted: Standing): string =>
    rows
      .filter(({ standing }) => standing === wanted)
      .map(({ title }) => title)
      .join('; ');
  const [behind, even] = [titles('behind'), titles('even')];
  return [
    behind === ''
      ? 'Cistern is slower or larger than registry nowhere.'
      : `Slower or larger here: ${behind}.`,
    even === '' ? '' : ` Now ahead, now behind, from round to round: ${even}.`,
  ].join('');
}

export function withUnit(value: number, unit: string): string {
  return `${quantity(value)}${unit === '' ? '' : ` ${unit}`}`;
}

export function quantity(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : 2;
  return value.toLocaleString('en-US', { maximumFractionDigits: digits });
}
