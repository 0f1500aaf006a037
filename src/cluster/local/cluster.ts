import { LocalBudgetLedger } from '../../upstream/rate-budget.js';
import type { JoiningCluster } from '../cluster.js';
import { LocalDescriptorCache, memoryLifetime, NoTagCache } from './caches.js';
import { LocalCoordinator } from './coordinator.js';

/** A process without Redis: there are no others. */
export class LocalCluster implements JoiningCluster {
  readonly coordinator = new LocalCoordinator();
  readonly tags = new NoTagCache();
  readonly budgets = new LocalBudgetLedger();
  readonly peers = undefined;
  readonly descriptors: LocalDescriptorCache;

  constructor(graceMs: number) {
    this.descriptors = new LocalDescriptorCache(memoryLifetime(graceMs));
  }

  join(): void {
    // There is nobody.
  }

  memoryMs(): Promise<number> {
    return Promise.resolve(Number.POSITIVE_INFINITY); // what there is cannot be lost
  }

  close(): void {
    // Nothing is open.
  }
}
