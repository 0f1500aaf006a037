import { waitFor } from './wait.js';

/**
 * Does equal work once: callers that ask for a key while its work runs share one promise. The work belongs to no
 * caller, so it continues when they leave, and its rejection is handled even if they all have left.
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();

  /** The running work of the key, or the work that `start` begins. */
  join(key: string, start: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const flight = Promise.try(start).finally(() => this.#running.delete(key));
    flight.catch(() => undefined);
    this.#running.set(key, flight);
    return flight;
  }

  /** Resolves when no work of the key runs. Never rejects. */
  async idle(key: string): Promise<void> {
    await this.#running.get(key)?.catch(() => undefined);
  }
}

/**
 * Does equal work once for the callers that wait for it: callers that ask for a key while its work runs share it. The
 * work's signal aborts when the last of them leaves.
 */
export class SharedFlight<T> {
  readonly #running = new Map<string, Flight<T>>();

  /** Rejects with the signal's reason when the caller leaves first. */
  async join(key: string, start: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const flight = this.#running.get(key) ?? this.#begin(key, start);
    flight.waiting += 1;
    try {
      return await waitFor(flight.work, signal);
    } finally {
      flight.waiting -= 1;
      if (flight.waiting === 0) this.#end(key, flight);
    }
  }

  #begin(key: string, start: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const end = new AbortController();
    const flight = { work: Promise.try(start, end.signal), end, waiting: 0 };
    this.#running.set(key, flight);
    return flight;
  }

  #end(key: string, flight: Flight<T>): void {
    this.#running.delete(key);
    flight.end.abort(new Error('the last caller left'));
  }
}

interface Flight<T> {
  readonly work: Promise<T>;
  readonly end: AbortController;
  waiting: number;
}
