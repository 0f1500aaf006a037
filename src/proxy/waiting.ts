import { UpstreamError } from '../upstream/upstream.js';

/**
 * Equal work is done once: whoever asks while it runs gets the same promise. The work belongs to nobody who asked,
 * so it goes on when they leave.
 */
export class Flights<T> {
  readonly #running = new Map<string, Promise<T>>();

  join(key: string, start: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const flight = start().finally(() => this.#running.delete(key));
    this.#running.set(key, flight);
    return flight;
  }
}

/** Waits for work that goes on without this waiter; throws the signal's reason when the waiter leaves first. */
export async function waitFor<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const left = Promise.withResolvers<never>();
  const leave = (): void => left.reject(signal.reason as Error);
  signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([work, left.promise]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}

/** A signal that aborts with an upstream's time-out, so that the upstream's breaker hears of it. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number, host: string, doing: string) {
    this.#timer = setTimeout(() => {
      this.#controller.abort(new UpstreamError('timeout', host, `no answer within ${ms} ms to ${doing}`));
    }, ms);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
