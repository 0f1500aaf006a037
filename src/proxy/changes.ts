import type { Spool } from '../storage/spool.js';

/** Readers are not woken for every crumb: with many of them that costs more than the bytes. */
const wakeBytes = 256 * 1024;
const wakeMs = 10;

/** Those who wait for a transfer to go on. */
export class Changes {
  readonly #waiting = new Set<() => void>();
  /** The spool's length when they were last woken. */
  #woken = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly spool: Pick<Spool, 'length'>) {}

  /** There is more in the spool: tells it at once where it is the first or much, else a moment later. */
  tellGrowth(): void {
    if (this.#woken === 0 || this.spool.length - this.#woken >= wakeBytes) this.tell();
    else this.#timer ??= setTimeout(() => this.tell(), wakeMs);
  }

  tell(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#woken = this.spool.length;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** Settles when something has changed, or after so many milliseconds; throws the signal's reason. */
  next(signal: AbortSignal, withinMs?: number): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => reject(signal.reason as Error);
    const timer = withinMs === undefined ? undefined : setTimeout(resolve, withinMs);
    this.#waiting.add(resolve);
    signal.addEventListener('abort', leave, { once: true });
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiting.delete(resolve);
      signal.removeEventListener('abort', leave);
    });
  }
}
