import type { Inventory } from '../storage/storage.js';

/** The storage's own clock, as this process goes on counting it: the clocks of hosts may be off. */
export class StorageClock {
  #offsetMs = 0;

  constructor(
    private readonly inventory: Pick<Inventory, 'now'>,
    /** Never steps. */
    private readonly elapsedMs: () => number = () => performance.now(),
  ) {}

  /** Asks the storage what time it is. Throws StorageError. */
  async set(): Promise<void> {
    const asked = this.elapsedMs();
    this.#offsetMs = (await this.inventory.now()) - asked;
  }

  /** Since 1970. */
  get seconds(): number {
    return Math.floor((this.#offsetMs + this.elapsedMs()) / 1000);
  }
}
