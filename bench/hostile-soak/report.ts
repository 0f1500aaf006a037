import type { EnemyResult, KindTally } from './enemy-kinds.js';
import type { HonestTally } from './honest.js';
import type { Latency, ProbeResult } from './probe.js';
import type { JobRuns } from './replicas.js';

export interface ReplicaResult {
  readonly exits: readonly string[];
  /** Errors that no code handled: the process's count plus the number of such log lines. */
  readonly unhandled: number;
  /** `last` and `most` in MiB, `slope` in MiB per minute. */
  readonly memory: { readonly last: number; readonly most: number; readonly slope: number };
}

export interface RunResult {
  readonly faults: Readonly<Record<string, number>>;
  readonly tally: HonestTally;
  readonly enemies: EnemyResult;
  readonly health: ProbeResult;
  readonly jobs: readonly JobRuns[];
  readonly storage: { readonly passed: number; readonly forbidden: number; readonly slowDown: number };
  readonly replicas: readonly ReplicaResult[];
}

/** The target for the 99th percentile of `/healthz`, in milliseconds, on a machine that does nothing else. */
const wantedP99 = 100;

/** The results of a run, in Markdown. */
export class Report {
  constructor(private readonly result: RunResult) {}

  /** Whether every count that must be zero is zero. */
  get holds(): boolean {
    return this.#zeros().every(([, count]) => count === 0);
  }

  table(): string {
    const zeros = this.#zeros().map(
      ([what, count]) => `| ${what} | ${count} |${count === 0 ? '' : ' ✗'} 0 |`,
    );
    return [
      ['| | found | must be |', '|---|---:|---:|', ...zeros],
      this.#replicas(),
      this.#clients(),
      [this.#faults()],
    ]
      .map((lines) => lines.join('\n'))
      .join('\n\n');
  }

  #zeros(): (readonly [string, number])[] {
    const { tally, enemies, replicas, health } = this.result;
    const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
    return [
      ['processes that ended', sum(replicas.map(({ exits }) => exits.length))],
      ['errors that no code handled', sum(replicas.map(({ unhandled }) => unhandled))],
      ['honest requests that failed', tally.failures],
      ['answers with wrong bytes', tally.wrong + enemies.wrong.length],
      ['answers with content that the client may not have', enemies.opened.length],
      ['requests without an answer for 60 s', enemies.unanswered.length],
      ['probes of `/healthz` that failed', sum(health.replicas.map(({ failed }) => failed))],
    ];
  }

  #replicas(): string[] {
    const { replicas, health, jobs } = this.result;
    const rows = replicas.map(({ memory }, index) => {
      const { done = 0, failed = 0 } = jobs[index] ?? {};
      return [
        `replica ${index}`,
        ...latencyCells(health.replicas[index]),
        `${memory.last.toFixed(0)} MiB (${memory.most.toFixed(0)})`,
        memory.slope.toFixed(2),
        `${done} (${failed})`,
      ];
    });
    const head = [
      '',
      '`/healthz`, median',
      `p99 (wanted: below ${wantedP99} ms)`,
      'worst',
      'memory at the end (peak)',
      'MiB per minute after a third of the time',
      'jobs done (failed)',
    ];
    const timers = ["delay of the probe's own timers", ...latencyCells(health.timers), '', '', ''];
    return [row(head), `|---|${'---:|'.repeat(head.length - 1)}`, ...[...rows, timers].map(row)];
  }

  #clients(): string[] {
    const { tally, enemies } = this.result;
    const megabytes = `${(tally.bytes / 1_000_000).toFixed(0)} MB in ${tally.pulls} pulls`;
    const honest = row(['pulls honestly', String(tally.requests), megabytes, '', String(tally.failures)]);
    const rows = Object.entries(enemies.kinds).map(([name, kind]) =>
      row([name, String(kind.requests), answersOf(kind), String(kind.left), String(kind.cut)]),
    );
    return [
      row(['a client that', 'requests', 'answers', 'left', 'cut']),
      '|---|---:|---|---:|---:|',
      honest,
      ...rows,
    ];
  }

  #faults(): string {
    const { faults, storage } = this.result;
    const counts = Object.entries(faults).map(([name, count]) => `${name} ${count} ×`);
    const { passed, forbidden, slowDown } = storage;
    return `Faults: ${counts.join(', ')}. The storage answered ${passed} requests, refused ${forbidden} reads and was busy ${slowDown} times.`;
  }
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function latencyCells(latency: Latency | undefined): string[] {
  const { median = 0, p99 = 0, worst = 0 } = latency ?? {};
  return [median, p99, worst].map((ms) => `${ms.toFixed(1)} ms`);
}

function answersOf({ answers }: KindTally): string {
  return Object.entries(answers)
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([status, count]) => `${count} × ${status}`)
    .join(', ');
}
