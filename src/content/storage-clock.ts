import type { Inventory } from '../storage/storage.js';

/** The storage's own clock, which this process continues to count: the clocks of hosts may be wrong. */
export class StorageClock {
  #offsetMs = 0;

  constructor(
    private readonly inventory: Pick<Inventory, 'now'>,
    /** Never steps. */
    private readonly elapsedMs: () => number = () => performance.now(),
  ) {}

  /** Asks the storage for its time. Throws StorageError. */
  async set(): Promise<void> {
    const asked = this.elapsedMs();
    this.#offsetMs = (await this.inventory.now()) - asked;
  }

  /** The storage's time in seconds since 1970. */
  get seconds(): number {
    return Math.floor((this.#offsetMs + this.elapsedMs()) / 1000);
  }
}
