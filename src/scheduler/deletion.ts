import type { Cluster } from '../cluster/cluster.js';
import type { InUseHistory } from '../usage/usage.js';

/**
 * Whether content may be deleted now (rule 8): it is allowed at all, what a configured Redis knows of the others'
 * work it knows for longer than the grace, and those who are to tell what runs have told once.
 */
export class Deletion {
  constructor(
    private readonly enabled: boolean,
    private readonly graceMs: number,
    private readonly cluster: Pick<Cluster, 'memoryMs'>,
    private readonly inUse: Pick<InUseHistory, 'unknown'>,
  ) {}

  async allowed(): Promise<boolean> {
    return (await this.obstacle()) === undefined;
  }

  /** Why nothing may be deleted now, for operators; `undefined`: it may. */
  async obstacle(): Promise<string | undefined> {
    if (!this.enabled) return 'storage.delete.enabled is false';
    const memoryMs = await this.cluster.memoryMs();
    if (memoryMs === undefined) return 'Redis cannot be asked what other replicas do';
    if (memoryMs < this.graceMs) return 'Redis was empty less than scheduler.grace ago';
    return this.inUse.unknown();
  }
}
