import { setTimeout as sleep } from 'node:timers/promises';

/** What was saved up while nothing was read lets go of so much at once. */
const burstSeconds = 0.25;
/** Shorter waits are put off: timers are not finer. */
const leastSeconds = 0.02;

/** Holds work to a rate. */
export class Pace {
  /** When the work so far would be done at exactly the rate, in seconds of `now`. */
  #due: number;

  constructor(
    /** A second; may be infinite. */
    private readonly rate: number,
    private readonly now: () => number = () => performance.now() / 1000,
    private readonly wait: (ms: number, signal: AbortSignal) => Promise<unknown> = (ms, signal) =>
      sleep(ms, undefined, { signal }),
  ) {
    this.#due = now();
  }

  /** So much is done: settles when more may be. Throws the signal's reason. */
  async after(amount: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const now = this.now();
    this.#due = Math.max(this.#due, now - burstSeconds) + amount / this.rate;
    const ahead = this.#due - now;
    if (ahead < leastSeconds) return;
    try {
      await this.wait(ahead * 1000, signal);
    } catch (error) {
      signal.throwIfAborted(); // its own reason, not the timer's
      throw error;
    }
  }
}
