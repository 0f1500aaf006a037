import type { Repository } from '../oci/name.js';
import { waitFor } from '../async/wait.js';
import { parseChallenges, type Challenge } from './challenge.js';
import { basicHeader } from './credentials.js';
import { checkRealm, type RealmRule } from './realm.js';
import { TokenSource, type TokenSourceOptions } from './token.js';
import { UpstreamError } from './upstream.js';

/** What a request identifies itself with. */
export interface Authorization {
  readonly scheme: 'basic' | 'bearer';
  /** The value of the header. Secret. */
  readonly header: string;
  /** Whether it was obtained for this very request. */
  readonly fresh: boolean;
}

type Scheme = 'basic' | TokenSource;

/**
 * Answers an upstream's challenges, and remembers the kind of challenge, so that later requests carry their answer
 * at once. Credentials go to the upstream's own origin (Basic) or to a realm that passed the realm rule (Bearer).
 */
export class Authorizer {
  #scheme: Scheme | undefined;

  constructor(
    private readonly rule: RealmRule,
    private readonly options: TokenSourceOptions,
  ) {}

  /** What is at hand, without waiting. */
  ready(repository: Repository): Authorization | undefined {
    if (!(this.#scheme instanceof TokenSource)) return undefined;
    const token = this.#scheme.cached(repository);
    return token === undefined ? undefined : bearer(token, false);
  }

  /** Whether the upstream is known to want an authorization, so that {@link obtain} is worth waiting for. */
  get challenged(): boolean {
    return this.#scheme !== undefined;
  }

  /** By the challenge that is remembered; `undefined` where nothing can be said up front. */
  async obtain(repository: Repository, signal: AbortSignal): Promise<Authorization | undefined> {
    const scheme = this.#scheme;
    if (scheme === undefined) return undefined;
    return scheme === 'basic' ? this.#basic(signal) : bearer(await scheme.obtain(repository, signal), true);
  }

  /**
   * After a 401 to a request that carried `sent`: what to try once more.
   * @throws UpstreamError where there is nothing more to try, or the realm is refused, or no token can be had.
   */
  async answer(
    header: string | readonly string[] | undefined,
    repository: Repository,
    sent: Authorization | undefined,
    signal: AbortSignal,
  ): Promise<Authorization> {
    const challenges = parseChallenges(header);
    const wanted = challenges.find(
      ({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'),
    );
    if (wanted !== undefined) return this.#answerBearer(wanted, repository, sent, signal);
    const answer = await this.#basic(signal);
    if (answer === undefined) throw this.#noAccess();
    if (!challenges.some(({ scheme }) => scheme === 'basic')) {
      if (sent !== undefined) throw this.rejected(repository, sent);
      throw new UpstreamError('invalid', this.rule.host, 'answered 401 without a challenge to answer');
    }
    this.#scheme = 'basic';
    if (answer.header === sent?.header) throw this.rejected(repository, sent);
    return answer;
  }

  /** After a 401 to the second try: what that means. */
  rejected(repository: Repository, sent: Authorization): UpstreamError {
    if (sent.scheme === 'basic') {
      return new UpstreamError('credentials-refused', this.rule.host, 'refused the credentials', {
        status: 401,
      });
    }
    this.#forget(repository, sent);
    return this.#noAccess();
  }

  async #answerBearer(
    challenge: Challenge,
    repository: Repository,
    sent: Authorization | undefined,
    signal: AbortSignal,
  ): Promise<Authorization> {
    const realm = checkRealm(challenge.parameters.get('realm') ?? '', this.rule);
    const server = { realm, service: challenge.parameters.get('service') };
    const known = this.#scheme;
    const tokens =
      known instanceof TokenSource && known.isOf(server) ? known : new TokenSource(server, this.options);
    this.#scheme = tokens;
    if (sent !== undefined) this.#forget(repository, sent);
    // Another token of the same server, asked for in the same moment, would give no more access than this one.
    if (sent?.scheme === 'bearer' && sent.fresh && tokens === known) throw this.#noAccess();
    return bearer(await tokens.obtain(repository, signal), true);
  }

  async #basic(signal: AbortSignal): Promise<Authorization | undefined> {
    const identity = await waitFor(this.options.identify(), signal);
    if (identity === undefined) return undefined;
    return { scheme: 'basic', header: basicHeader(identity.username, identity.password), fresh: true };
  }

  #forget(repository: Repository, sent: Authorization): void {
    if (!(this.#scheme instanceof TokenSource)) return;
    this.#scheme.drop(repository, sent.header.slice(bearerPrefix.length));
  }

  #noAccess(): UpstreamError {
    return new UpstreamError('not-found', this.rule.host, 'answered 401: no access to that repository', {
      status: 401,
    });
  }
}

const bearerPrefix = 'Bearer ';

function bearer(token: string, fresh: boolean): Authorization {
  return { scheme: 'bearer', header: bearerPrefix + token, fresh };
}
