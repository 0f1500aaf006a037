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
}
