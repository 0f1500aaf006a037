import { Counter, type Registry } from 'prom-client';

/** What content answers are counted by: the cache's word on them. */
const outcomes = ['hit', 'revalidated', 'stale', 'miss'] as const;
const types = ['manifest', 'blob'] as const;

type AnswerOutcome = (typeof outcomes)[number];
type AnswerType = (typeof types)[number];

class Tally {
  readonly manifest = { hit: 0, revalidated: 0, stale: 0, miss: 0, bytes: 0 };
  readonly blob = { hit: 0, revalidated: 0, stale: 0, miss: 0, bytes: 0 };
}

/**
 * Content that clients got, by upstream. Every warm answer passes here: numbers are added up in objects, and become
 * samples only when somebody asks for them.
 */
export class Answers {
  readonly #tallies = new Map<string, Tally>();

  constructor(registry: Registry) {
    const each = (visit: (upstream: string, type: AnswerType, counts: Tally[AnswerType]) => void): void => {
      for (const [upstream, tally] of this.#tallies)
        for (const type of types) visit(upstream, type, tally[type]);
    };
    const answers = new Counter({
      name: 'cistern_answers_total',
      help: 'Answers with content, by upstream, type and what the cache had: hit, revalidated, stale, miss.',
      labelNames: ['upstream', 'type', 'outcome'],
      registers: [],
      collect() {
        this.reset();
        each((upstream, type, counts) => {
          for (const outcome of outcomes) this.inc({ upstream, type, outcome }, counts[outcome]);
        });
      },
    });
    const bytes = new Counter({
      name: 'cistern_answered_bytes_total',
      help: 'Bytes of content sent to clients, by upstream and type.',
      labelNames: ['upstream', 'type'],
      registers: [],
      collect() {
        this.reset();
        each((upstream, type, counts) => this.inc({ upstream, type }, counts.bytes));
      },
    });
    registry.registerMetric(answers);
    registry.registerMetric(bytes);
    for (const metric of this.#inAll()) registry.registerMetric(metric);
  }

  /** Begins at zero, so that the first answer already shows as an increase. */
  expect(upstream: string): void {
    this.#of(upstream);
  }

  /** `upstream`: as configured, never as a client named it. */
  count(upstream: string, type: AnswerType, outcome: AnswerOutcome, bytes: number): void {
    const counts = this.#of(upstream)[type];
    counts[outcome] += 1;
    counts.bytes += bytes;
  }

  /** The same of all upstreams together, under registry:3's names. */
  #inAll(): Counter<'type'>[] {
    const tallies = this.#tallies;
    const counter = (
      name: string,
      help: string,
      of: (counts: Tally[AnswerType]) => number,
    ): Counter<'type'> =>
      new Counter({
        name,
        help,
        labelNames: ['type'],
        registers: [],
        collect() {
          this.reset();
          for (const tally of tallies.values())
            for (const type of types) if (answered(tally[type]) > 0) this.inc({ type }, of(tally[type]));
        },
      });
    return [
      counter('registry_proxy_requests_total', 'Requests for content, by type.', answered),
      counter(
        'registry_proxy_hits_total',
        'Requests for content that the store answered.',
        (counts) => answered(counts) - counts.miss,
      ),
      counter(
        'registry_proxy_misses_total',
        'Requests for content that an upstream was asked for.',
        ({ miss }) => miss,
      ),
      counter(
        'registry_proxy_pushed_bytes_total',
        'Bytes of content sent to clients.',
        (counts) => counts.bytes,
      ),
    ];
  }

  #of(upstream: string): Tally {
    let tally = this.#tallies.get(upstream);
    if (tally === undefined) {
      tally = new Tally();
      this.#tallies.set(upstream, tally);
    }
    return tally;
  }
}

function answered({ hit, revalidated, stale, miss }: Tally[AnswerType]): number {
  return hit + revalidated + stale + miss;
}
