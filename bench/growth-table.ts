import { summarize } from './statistics.js';

/** A quantity of each store, from the smallest to the largest; of each all that was measured. */
export interface Line {
  readonly title: string;
  readonly unit: string;
  readonly values: readonly (readonly number[])[];
  readonly limit?: Limit;
}

/** What the quantity may become, however much is stored. */
export type Limit =
  /** That of the largest store, over that of the smallest. */
  | { readonly factor: number }
  /** Of every store, in the line's unit. */
  | { readonly below: number };

export function holds({ values, limit }: Line): boolean {
  if (limit === undefined) return true;
  if ('below' in limit) return medians(values).every((value) => value < limit.below);
  return growth(values) <= limit.factor;
}

/** In Markdown, with the medians. */
export function growthTable(descriptors: readonly number[], lines: readonly Line[]): string {
  const heads = descriptors.map((count) => ` ${quantity(count)} |`).join('');
  return [
    `| known descriptors |${heads} × | allowed |`,
    `|---|${'---:|'.repeat(descriptors.length + 2)}`,
    ...lines.map((line) => rowOf(line)),
  ].join('\n');
}

function rowOf(line: Line): string {
  const { title, unit, values } = line;
  const cells = medians(values).map((value) => `${quantity(value)} ${unit}`);
  const mark = holds(line) ? '' : ' **exceeded**';
  return `| ${[title, ...cells, growth(values).toFixed(2), allowed(line) + mark].join(' | ')} |`;
}

function allowed({ unit, limit }: Line): string {
  if (limit === undefined) return '';
  return 'below' in limit ? `< ${quantity(limit.below)} ${unit}` : `× ${limit.factor}`;
}

function growth(values: Line['values']): number {
  const [first = Number.NaN, ...more] = medians(values);
  return (more.at(-1) ?? Number.NaN) / first;
}

function medians(values: Line['values']): number[] {
  return values.map((each) => summarize(each).median);
}

function quantity(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: value >= 100 ? 0 : 1 });
}
