import type { Measure } from './scenario.js';
import { summarize, type Summary } from './statistics.js';

/** A measure with what the table says of it. */
export interface Row extends Measure {
  readonly summary: { readonly peer: Summary; readonly cistern: Summary };
  /** Cistern's median over the peer's. */
  readonly ratio: number;
}

export function rowOf(measure: Measure): Row {
  const summary = { peer: summarize(measure.peer), cistern: summarize(measure.cistern) };
  return { ...measure, summary, ratio: summary.cistern.median / summary.peer.median };
}

/** In Markdown. */
export function tableOf(rows: readonly Row[], peerTitle: string): string {
  return [
    `| | better | ${peerTitle} | Cistern | Cistern ÷ registry |`,
    '|---|---|---:|---:|---:|',
    ...rows.map(({ title, unit, better, summary, ratio }) => {
      const cells = [cell(summary.peer, unit), cell(summary.cistern, unit)];
      return `| ${title} | ${better} | ${cells.join(' | ')} | ${ratio.toFixed(2)} |`;
    }),
  ].join('\n');
}

/** `1,234 requests/s (1,200–1,300)`. */
function cell({ median, min, max }: Summary, unit: string): string {
  return `${quantity(median)}${unit === '' ? '' : ` ${unit}`} (${quantity(min)}–${quantity(max)})`;
}

function quantity(value: number): string {
  const digits = Math.abs(value) >= 100 ? 0 : 2;
  return value.toLocaleString('en-US', { maximumFractionDigits: digits });
}
