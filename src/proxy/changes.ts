import { waitFor } from '../async/wait.js';
import type { Spool } from '../storage/spool.js';

/** How much more is told at once, in bytes, and within how many milliseconds anything is. */
interface Pace {
  readonly bytes: number;
  readonly ms: number;
}

/** Nobody is woken for every crumb, and a crowd later still: waking costs more than the bytes. */
const ofFew: Pace = { bytes: 256 * 1024, ms: 10 };
const ofMany: Pace = { bytes: 256 * 1024, ms: 50 };
const few = 4;

/** Those who wait for a transfer to go on: readers, and whoever feeds others, such as another replica. */
export class Changes {
  readonly #readers: Waiting;
  readonly #feeders: Waiting;

  constructor(spool: Pick<Spool, 'length'>) {
    this.#readers = new Waiting(spool, (waiting) => (waiting > few ? ofMany : ofFew));
    this.#feeders = new Waiting(spool, () => ofFew);
  }

  /** There is more in the spool: tells it at once where it is the first or much, else a moment later. */
  tellGrowth(): void {
    this.#feeders.tellGrowth();
    this.#readers.tellGrowth();
  }

  tell(): void {
    this.#feeders.tell();
    this.#readers.tell();
  }

  /** Settles when something has changed; throws the signal's reason. */
  next(signal: AbortSignal): Promise<void> {
    return this.#readers.next(signal);
  }

  /** The same for those whose own readers wait, and after so many milliseconds whatever has changed. */
  nextWithin(withinMs: number, signal: AbortSignal): Promise<void> {
    return this.#feeders.next(signal, withinMs);
  }
}

class Waiting {
  readonly #waiting = new Set<() => void>();
  /** The spool's length when they were last woken. */
  #woken = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly spool: Pick<Spool, 'length'>,
    private readonly paceOf: (waiting: number) => Pace,
  ) {}

  tellGrowth(): void {
    const { bytes, ms } = this.paceOf(this.#waiting.size);
    if (this.#woken === 0 || this.spool.length - this.#woken >= bytes) this.tell();
    else this.#timer ??= setTimeout(() => this.tell(), ms);
  }

  tell(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#woken = this.spool.length;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  next(signal: AbortSignal, withinMs?: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = withinMs === undefined ? undefined : setTimeout(resolve, withinMs);
    this.#waiting.add(resolve);
    return waitFor(promise, signal).finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(resolve);
    });
  }
}
