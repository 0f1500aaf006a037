import type { Logger } from '../../telemetry/log.js';
import { Seal } from './seal.js';

/** Replicas see a new secret some time after one another, and prove themselves by the one before it until then. */
const overlapMs = 60 * 60_000;
/** The secret may be in a file, and every value from Redis needs it, so the file is checked only this often. */
const lookEveryMs = 1_000;

/** What replicas prove themselves by: the secret, and for an hour after it has changed the one before. */
export class Seals {
  #secret: string;
  #current: Seal;
  #before: Seal | undefined;
  #overUntil = 0;
  #lookedAt: number;

  /** @throws as `read` does. */
  constructor(
    /** The secret as it is now. Once it was read it does not throw. */
    private readonly read: () => string,
    private readonly log: Pick<Logger, 'info'>,
    /** Milliseconds of a clock that never goes back. */
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#secret = read();
    this.#current = new Seal(this.#secret);
    this.#lookedAt = this.now();
  }

  /** The newest first. */
  all(): readonly Seal[] {
    const now = this.now();
    if (now - this.#lookedAt >= lookEveryMs) this.#look(now);
    if (this.#before !== undefined && now >= this.#overUntil) this.#before = undefined;
    return this.#before === undefined ? [this.#current] : [this.#current, this.#before];
  }

  #look(now: number): void {
    this.#lookedAt = now;
    const secret = this.read();
    if (secret === this.#secret) return;
    this.#secret = secret;
    this.#before = this.#current;
    this.#current = new Seal(secret);
    this.#overUntil = now + overlapMs;
    this.log.info({ overlapMs }, 'the secret of the cluster has changed, the one before counts for an hour');
  }
}
