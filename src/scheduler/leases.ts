import type { Cluster, Lease } from '../cluster/cluster.js';
import { LeaseLost } from './faults.js';
import { pause } from './pause.js';

const watchMs = 500;
const turnMs = 1_000;

/** What this process holds of what one replica at a time does; and one at a time within this process. */
export class JobLeases {
  readonly #here = new Set<string>();

  constructor(private readonly cluster: Pick<Cluster, 'coordinator'>) {}

  /** `undefined`: somebody has it, here or elsewhere. */
  async take(key: string): Promise<HeldLease | undefined> {
    if (this.#here.has(key)) return undefined;
    this.#here.add(key);
    const free = (): void => void this.#here.delete(key);
    try {
      const lease = await this.cluster.coordinator.tryLead(`job:${key}`);
      if (lease !== undefined) return new HeldLease(key, lease, free);
    } catch (error) {
      free();
      throw error;
    }
    free();
    return undefined;
  }

  /** Waits until nobody has it; `waiting` is told when that takes time. Throws the signal's reason. */
  async turn(key: string, signal: AbortSignal, waiting?: () => void): Promise<HeldLease> {
    for (let tries = 0; ; tries += 1) {
      signal.throwIfAborted();
      const held = await this.take(key);
      if (held !== undefined) return held;
      if (tries === 0) waiting?.();
      await pause(turnMs, signal);
    }
  }

  /** Whether another replica has it now, as far as anybody can be asked; cheaper than to try. */
  async heldElsewhere(key: string): Promise<boolean> {
    return !this.#here.has(key) && (await this.cluster.coordinator.state(`job:${key}`)) === 'led';
  }
}

/** Held until it is disposed of, or lost. */
export class HeldLease implements AsyncDisposable {
  readonly #lost = new AbortController();
  readonly #watching = setInterval(() => void this.#look(), watchMs).unref();

  constructor(
    readonly key: string,
    private readonly lease: Lease,
    private readonly free: () => void,
  ) {}

  /** `process`: nobody could be asked. */
  get scope(): Lease['scope'] {
    return this.lease.scope;
  }

  /** Aborted with {@link LeaseLost}. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Throws {@link LeaseLost}. */
  async confirm(): Promise<void> {
    await this.#look();
    this.lost.throwIfAborted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watching);
    await this.lease.release(false);
    this.free();
  }

  async #look(): Promise<void> {
    if (this.lost.aborted || (await this.lease.confirm())) return;
    clearInterval(this.#watching);
    this.#lost.abort(new LeaseLost(this.key));
  }
}
