import { Counter, Gauge, type Registry } from 'prom-client';
import { Distributions, type Distribution } from './distribution.js';

const seconds = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const bytes = [1_024, 16_384, 262_144, 1_048_576, 16_777_216, 268_435_456, 1_073_741_824];

/** Requests of one handler, method and status code. */
export class RequestTally {
  #answered = 0;

  constructor(
    private readonly durations: Distribution,
    private readonly requestSizes: Distribution,
    private readonly responseSizes: Distribution,
  ) {}

  get answered(): number {
    return this.#answered;
  }

  /** @param took in seconds @param received in bytes, as declared @param sent in bytes of the body */
  count(took: number, received: number, sent: number): void {
    this.#answered += 1;
    this.durations.observe(took);
    this.requestSizes.observe(received);
    this.responseSizes.observe(sent);
  }
}

/**
 * registry's metrics of HTTP. Every request passes here: numbers are added up in objects, and become samples only when
 * somebody asks for them.
 */
export class RequestTallies {
  readonly #tallies = new Map<string, Map<string, Map<number, RequestTally>>>();
  readonly #inFlight = new Map<string, number>();
  readonly #durations: Distributions<'handler' | 'method'>;
  readonly #requestSizes: Distributions<'handler'>;
  readonly #responseSizes: Distributions<'handler'>;

  constructor(registry: Registry) {
    this.#durations = new Distributions(registry, {
      name: 'registry_http_request_duration_seconds',
      help: 'Time from the request to the last byte of its answer.',
      labelNames: ['handler', 'method'],
      buckets: seconds,
    });
    this.#requestSizes = new Distributions(registry, {
      name: 'registry_http_request_size_bytes',
      help: 'Size of request bodies as declared.',
      labelNames: ['handler'],
      buckets: bytes,
    });
    this.#responseSizes = new Distributions(registry, {
      name: 'registry_http_response_size_bytes',
      help: 'Bytes of answers’ bodies.',
      labelNames: ['handler'],
      buckets: bytes,
    });
    registry.registerMetric(this.#answered());
    registry.registerMetric(this.#answering());
  }

  begin(handler: string): void {
    this.#inFlight.set(handler, (this.#inFlight.get(handler) ?? 0) + 1);
  }

  end(handler: string): void {
    this.#inFlight.set(handler, (this.#inFlight.get(handler) ?? 1) - 1);
  }

  /** To be kept by those who count often. `method`: from a short list. */
  of(handler: string, method: string, code: number): RequestTally {
    const methods = entry(this.#tallies, handler, () => new Map<string, Map<number, RequestTally>>());
    const codes = entry(methods, method, () => new Map<number, RequestTally>());
    return entry(
      codes,
      code,
      () =>
        new RequestTally(
          this.#durations.of({ handler, method }),
          this.#requestSizes.of({ handler }),
          this.#responseSizes.of({ handler }),
        ),
    );
  }

  #answered(): Counter<'handler' | 'code' | 'method'> {
    const tallies = this.#tallies;
    return new Counter({
      name: 'registry_http_requests_total',
      help: 'HTTP requests, by handler, method and status code of the answer; 499: the client left before its end.',
      labelNames: ['handler', 'code', 'method'],
      registers: [],
      collect() {
        this.reset();
        for (const [handler, methods] of tallies)
          for (const [method, codes] of methods)
            for (const [code, { answered }] of codes) this.inc({ handler, method, code }, answered);
      },
    });
  }

  #answering(): Gauge<'handler'> {
    const inFlight = this.#inFlight;
    return new Gauge({
      name: 'registry_http_in_flight_requests',
      help: 'HTTP requests being answered now, by handler.',
      labelNames: ['handler'],
      registers: [],
      collect() {
        for (const [handler, requests] of inFlight) this.set({ handler }, requests);
      },
    });
  }
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}
