import type { InUseWatch } from './in-use-watch.js';

/** All that look at what runs; none unless it is configured. */
export class InUseWatches {
  readonly #stopping = new AbortController();
  #work: Promise<unknown> | undefined;

  constructor(private readonly watches: readonly InUseWatch[]) {}

  start(): void {
    this.#work ??= Promise.all(this.watches.map((watch) => watch.run(this.#stopping.signal)));
  }

  /** Leaves it to other replicas. Resolves when nothing of it goes on here. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#work;
  }
}
