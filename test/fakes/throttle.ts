import { setTimeout as delay } from 'node:timers/promises';

/**
 * A sender that is so little late, as timers are, makes up for it: else the rate would depend on how busy the machine
 * is. One that is later was idle.
 */
const lateMs = 50;

/** A link's rate, shared by everyone who sends over it: each chunk gets the next free place in time. */
export class Throttle {
  #freeAt = 0;

  /** `undefined`: no limit. */
  constructor(readonly bytesPerSecond: number | undefined) {}

  /** Settles when the bytes would have gone through. */
  async pass(bytes: number, signal?: AbortSignal): Promise<void> {
    if (this.bytesPerSecond === undefined) return;
    const now = performance.now();
    const from = this.#freeAt < now - lateMs ? now : this.#freeAt;
    this.#freeAt = from + (bytes / this.bytesPerSecond) * 1000;
    const waitMs = this.#freeAt - now;
    if (waitMs >= 1) await delay(waitMs, undefined, { signal });
  }
}
