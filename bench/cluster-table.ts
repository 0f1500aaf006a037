import type { CostRow } from './cluster-cost.js';

/** What a further replica may take more than the first two did: who waits for a busy disk looks more often. */
const tolerance = 1.25;

const head = `| replicas | image | upstream requests | bytes from the upstream | bytes between replicas | Redis commands | S3 requests | S3 requests per pull |
|---:|---|---:|---:|---:|---:|---:|---:|`;

/**
 * In Markdown. What replicas share is told in total; for the rest also, in parentheses, what each replica beyond the
 * first added.
 */
export function costTable(rows: readonly CostRow[], clients: number, overBucket: boolean): string {
  const lines = rows.map((row) => {
    const first = firstOf(rows, row);
    const each = (value: (row: CostRow) => number, text: (value: number) => string): string =>
      row === first ? text(value(row)) : `${text(value(row))} (${text(further(row, first, value))})`;
    const times = (bytes: number): string => `${(bytes / row.imageBytes).toFixed(2)} ×`;
    const whole = (count: number): string => count.toFixed(0);
    const cells = [
      `${row.replicas}`,
      row.content,
      whole(row.upstreamRequests),
      times(row.upstreamBytes),
      each(({ peerBytes }) => peerBytes, times),
      each(({ redisCommands }) => redisCommands, whole),
      overBucket ? each(({ s3Requests }) => s3Requests, whole) : '–',
      overBucket ? (row.s3Requests / (row.replicas * clients)).toFixed(1) : '–',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [head, ...lines].join('\n');
}

/** What is not constant, in words; nothing where all is. */
export function growing(rows: readonly CostRow[]): string[] {
  return rows.flatMap((row) => {
    const first = firstOf(rows, row);
    if (row === first) return [];
    const second = rows.find(({ content, replicas }) => content === row.content && replicas > first.replicas);
    const faults: string[] = [];
    const fault = (what: string): void =>
      void faults.push(`${row.replicas} replicas, ${row.content}: ${what}`);
    if (row.upstreamRequests > first.upstreamRequests) {
      fault(`${row.upstreamRequests} upstream requests, ${first.upstreamRequests} with one`);
    }
    if (row.upstreamBytes > first.upstreamBytes) {
      fault(`${row.upstreamBytes} bytes from the upstream, ${first.upstreamBytes} with one`);
    }
    const perReplica: readonly [string, (row: CostRow) => number][] = [
      ['bytes between replicas', ({ peerBytes }) => peerBytes],
      ['Redis commands', ({ redisCommands }) => redisCommands],
      ['S3 requests', ({ s3Requests }) => s3Requests],
    ];
    for (const [what, value] of perReplica) {
      const now = further(row, first, value);
      const before = Math.max(value(first), further(second ?? row, first, value));
      if (now > before * tolerance)
        fault(`${now.toFixed(1)} ${what} for each further one, ${before} for the first ones`);
    }
    return faults;
  });
}

function firstOf(rows: readonly CostRow[], { content }: CostRow): CostRow {
  const first = rows.find((row) => row.content === content);
  if (first === undefined) throw new Error('a row of another table');
  return first;
}

/** For each replica beyond the first. */
function further(row: CostRow, first: CostRow, value: (row: CostRow) => number): number {
  return (value(row) - value(first)) / (row.replicas - first.replicas);
}
