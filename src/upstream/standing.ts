import type { UpstreamLog } from './observer.js';

/** Refused credentials are tried again after this, as long as others are taken meanwhile. */
const refusedMs = 5 * 60_000;

/** Which of our identities an upstream refuses. The first of them that it takes is used. */
export class Standing<Identity> {
  /** When it was refused last. */
  readonly #refusedAt = new Map<Identity, number>();

  constructor(
    private readonly host: string,
    private readonly identities: readonly Identity[],
    /** Milliseconds of a clock that never goes back. */
    private readonly now: () => number,
    private readonly log: UpstreamLog,
  ) {}

  /** In the order of their use; all of them where all were refused, so that a new password is taken up at once. */
  usable(): readonly Identity[] {
    const usable = this.identities.filter((identity) => !this.#isRefused(identity));
    return usable.length > 0 ? usable : this.identities;
  }

  /** Told once for each time that this begins, where there are others to use. */
  refused(identity: Identity): void {
    if (!this.#refusedAt.has(identity) && this.identities.length > 1) {
      this.log.warn(this.#facts(identity), 'the upstream refuses credentials of ours, using the others');
    }
    this.#refusedAt.set(identity, this.now());
  }

  taken(identity: Identity): void {
    // While it counts as refused, this may be the answer to a request from before.
    if (!this.#refusedAt.has(identity) || this.#isRefused(identity)) return;
    this.#refusedAt.delete(identity);
    if (this.identities.length > 1) {
      this.log.info(this.#facts(identity), 'the upstream takes the credentials again');
    }
  }

  #isRefused(identity: Identity): boolean {
    const at = this.#refusedAt.get(identity);
    return at !== undefined && this.now() - at < refusedMs;
  }

  /** Not the account's name: with some registries that is as good as a secret. */
  #facts(identity: Identity): { upstream: string; credentials: string } {
    const place = this.identities.indexOf(identity) + 1;
    return { upstream: this.host, credentials: `${place} of ${this.identities.length}` };
  }
}
