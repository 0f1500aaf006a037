import type { Cluster } from '../cluster/cluster.js';

/** How long an answer is believed: jobs ask before each removal. */
const believedMs = 1_000;

/**
 * Whether content may be deleted now (rule 8): it is allowed at all, and what a configured Redis knows of the others'
 * work it knows for longer than the grace.
 */
export class Deletion {
  #believedUntil = 0;

  constructor(
    private readonly enabled: boolean,
    private readonly graceMs: number,
    private readonly cluster: Pick<Cluster, 'memoryMs'>,
  ) {}

  async allowed(): Promise<boolean> {
    if (!this.enabled) return false;
    if (performance.now() < this.#believedUntil) return true;
    const memoryMs = await this.cluster.memoryMs();
    const allowed = memoryMs !== undefined && memoryMs >= this.graceMs;
    if (allowed) this.#believedUntil = performance.now() + believedMs;
    return allowed;
  }
}
