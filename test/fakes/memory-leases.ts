import type { Coordinator, Lease } from '../../src/cluster/cluster.js';
import { LocalCoordinator, processLease } from '../../src/cluster/local/coordinator.js';

/** The leases of several replicas in one process, each with a coordinator of its own. */
export class MemoryLeases {
  readonly #holders = new Map<string, object>();
  /** Nobody can be asked. */
  away = false;

  /** The coordinator of one more replica, which extends its leases while it lives. */
  coordinator(lives: () => boolean = () => true): Coordinator {
    return Object.assign(new LocalCoordinator(), {
      tryLead: (key: string) => Promise.resolve(this.#tryLead(key, lives)),
      state: (key: string) => Promise.resolve(this.#state(key)),
    });
  }

  /** As a lease that lapsed. */
  lapse(key: string): void {
    this.#holders.delete(key);
  }

  held(): string[] {
    return [...this.#holders.keys()];
  }

  #state(key: string): 'unknown' | 'led' | 'free' {
    if (this.away) return 'unknown';
    return this.#holders.has(key) ? 'led' : 'free';
  }

  #tryLead(key: string, lives: () => boolean): Lease | undefined {
    if (this.away) return processLease;
    if (this.#holders.has(key)) return undefined;
    const holder = {};
    this.#holders.set(key, holder);
    const mine = (): boolean => this.#holders.get(key) === holder;
    return {
      scope: 'cluster',
      doubtful: false,
      confirm: () => {
        // Nobody has it: taken again.
        if (lives() && !this.#holders.has(key)) this.#holders.set(key, holder);
        return Promise.resolve(mine());
      },
      publish: () => Promise.resolve(),
      release: () => {
        if (mine()) this.#holders.delete(key);
        return Promise.resolve();
      },
    };
  }
}
