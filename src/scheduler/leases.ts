import type { Cluster, Lease } from '../cluster/cluster.js';
import { LeaseLost } from './faults.js';
import { pause } from '../async/wait.js';

const watchMs = 500;
const turnMs = 1_000;

export interface TurnOptions {
  /** Asked when it is free: whether somebody else who waits goes first. */
  readonly givesWay?: () => Promise<boolean>;
  /** Told once, where it takes time. */
  readonly onWait?: (() => void) | undefined;
}

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

  /** Waits until nobody has it, and nobody goes first. Throws the signal's reason, and what `givesWay` throws. */
  async turn(key: string, signal: AbortSignal, { givesWay, onWait }: TurnOptions = {}): Promise<HeldLease> {
    for (let tries = 0; ; tries += 1) {
      signal.throwIfAborted();
      const free = !(await this.isHeld(key)) && !(await givesWay?.());
      const held = free ? await this.take(key) : undefined;
      if (held !== undefined) return held;
      if (tries === 0) onWait?.();
      await pause(turnMs, signal);
    }
  }

  /** Whether anybody has it now, as far as they can be asked; cheaper than to try. */
  async isHeld(key: string): Promise<boolean> {
    return this.#here.has(key) || (await this.heldElsewhere(key));
  }

  /** Whether another replica has it now, as far as anybody can be asked; cheaper than to try. */
  async heldElsewhere(key: string): Promise<boolean> {
    return !this.#here.has(key) && (await this.cluster.coordinator.state(`job:${key}`)) === 'led';
  }
}

/** Held until it is disposed of, or lost. */
export class HeldLease implements AsyncDisposable {
  readonly #lost = new AbortController();
  readonly #watching = setInterval(() => {
    this.#look().catch(() => undefined); // confirm() gives the error to the job
  }, watchMs).unref();

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
    try {
      await this.lease.release(false);
    } finally {
      this.free();
    }
  }

  async #look(): Promise<void> {
    if (this.lost.aborted || (await this.lease.confirm())) return;
    clearInterval(this.#watching);
    this.#lost.abort(new LeaseLost(this.key));
  }
}
