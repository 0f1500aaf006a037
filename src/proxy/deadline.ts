import { UpstreamError } from '../upstream/upstream.js';

/** A signal that aborts with an upstream's time-out, so that the upstream's breaker counts it. */
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
