import { Histogram, type Registry } from 'prom-client';

/** Counts of values by bucket, added to without looking anything up. */
export class Distribution {
  readonly #counts: number[];
  #sum = 0;

  constructor(private readonly bounds: readonly number[]) {
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  observe(value: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket += 1;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += value;
  }

  /** As Prometheus has it: each bucket with those below. */
  samples<const L extends string>(name: string, labels: Readonly<Record<L, string>>): Sample<L>[] {
    let count = 0;
    const buckets = this.#counts.map((own, index) => {
      count += own;
      const le = this.bounds[index] ?? '+Inf';
      return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: this.#sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  }
}

interface Sample<L extends string> {
  readonly metricName: string;
  readonly labels: Readonly<Record<L, string>> | Readonly<Record<string, string | number>>;
  readonly value: number;
}

export interface HistogramFacts<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly L[];
  readonly buckets: readonly number[];
}

/** The library's histogram whose samples are ours: its own is paid for by several look-ups for each value. */
export class Distributions<const L extends string> {
  readonly #all = new Map<
    string,
    { readonly labels: Readonly<Record<L, string>>; readonly of: Distribution }
  >();

  constructor(
    registry: Registry,
    private readonly facts: HistogramFacts<L>,
  ) {
    const { name, help, labelNames, buckets } = facts;
    const histogram = new Histogram({
      name,
      help,
      labelNames: [...labelNames],
      buckets: [...buckets],
      registers: [],
    });
    const told = (): Promise<unknown> =>
      Promise.resolve({
        name,
        help,
        type: 'histogram',
        aggregator: 'sum',
        values: [...this.#all.values()].flatMap(({ labels, of }) => of.samples(name, labels)),
      });
    registry.registerMetric(Object.assign(histogram, { get: told, getForPromString: told }) as Histogram<L>);
  }

  /** The one of these labels, to be kept by those who add to it often. */
  of(labels: Readonly<Record<L, string>>): Distribution {
    const key = Object.values(labels).join(' ');
    let found = this.#all.get(key);
    if (found === undefined) {
      found = { labels, of: new Distribution(this.facts.buckets) };
      this.#all.set(key, found);
    }
    return found.of;
  }
}
