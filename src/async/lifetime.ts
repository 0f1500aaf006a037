/**
 * A time span of `ms` milliseconds that begins now. It is over when either the wall clock or the monotonic clock says
 * so: the wall clock may step back, and the monotonic clock stops while the machine sleeps.
 */
export class Lifetime {
  readonly #wallEnd: number;
  readonly #monotonicEnd: number;

  constructor(ms: number) {
    this.#wallEnd = Date.now() + ms;
    this.#monotonicEnd = performance.now() + ms;
  }

  get isOver(): boolean {
    return performance.now() >= this.#monotonicEnd || Date.now() >= this.#wallEnd;
  }
}
