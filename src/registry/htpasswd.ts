import { createHmac, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { WatchedFile } from '../config/watched-file.js';
import { SingleFlight } from '../async/single-flight.js';
import { waitFor } from '../async/wait.js';
import type { Logger } from '../telemetry/log.js';
import { LoginDelayed, type LoginSource, type Authentication, type Login } from './authentication.js';
import { parseBasic, type BasicCredentials } from './basic.js';
import { RegistryError } from './errors.js';
import { parseHtpasswd, type HtpasswdEntries } from './htpasswd-file.js';
import { ChecksBusy, PasswordChecks } from './password-checks.js';
import { TokenBuckets } from './token-buckets.js';

/** A verdict holds as long as its hash does. Each takes some 200 bytes, so their number bounds the memory. */
const remembered = { max: 10_000 };
/** Wrong passwords that an address may send: this many at once, then one in three seconds. */
const failures = { burst: 20, perSecond: 1 / 3 };
/** A login waits this long for its turn and its check. Clients give up after 10 s or later. */
const checkMs = 8_000;
const busySeconds = 2;

/**
 * `auth.htpasswd` of registry: bcrypt entries only; the file is read again when it changes. Clients send their password
 * with each request and bcrypt is slow on purpose, so verdicts are cached, under an HMAC with a key of this process.
 */
export class Htpasswd implements Authentication {
  readonly #key = randomBytes(32);
  readonly #right = new LRUCache<string, true>(remembered);
  /** A cache of its own, so that wrong passwords evict no right one. */
  readonly #wrong = new LRUCache<string, true>(remembered);
  readonly #checking = new SingleFlight<boolean>();
  readonly #checks = new PasswordChecks();
  readonly #failures = new TokenBuckets(failures.perSecond, failures.burst, () => performance.now());
  readonly #file: WatchedFile<HtpasswdEntries>;

  /** @throws ConfigError that names the invalid lines of the file. Invalid lines of later versions are logged. */
  constructor(
    path: string,
    private readonly realm: string,
    log: Pick<Logger, 'error' | 'warn'>,
  ) {
    const parse = (text: string): HtpasswdEntries => {
      const entries = parseHtpasswd(text, path);
      const lines = entries.unusable;
      if (lines.length > 0)
        log.warn({ path, lines }, 'the users in these lines cannot log in: the hash is not a bcrypt hash');
      return entries;
    };
    this.#file = new WatchedFile(path, parse, log);
    this.#file.readSync();
  }

  async login(
    authorization: string | undefined,
    source: LoginSource,
  ): Promise<Login | 'refused' | undefined> {
    const given = parseBasic(authorization);
    if (given === undefined) return authorization === undefined ? undefined : 'refused';
    const { hashes, substitute } = await this.#file.read();
    const known = hashes.get(given.username);
    const isRight = await this.#isRight(given, known ?? substitute, source);
    return isRight && known !== undefined ? { user: given.username, claims: undefined } : 'refused';
  }

  challenge(): RegistryError {
    const realm = this.realm.replaceAll(/["\\]/g, String.raw`\$&`);
    return new RegistryError('UNAUTHORIZED', undefined, { 'WWW-Authenticate': `Basic realm="${realm}"` });
  }

  /** The key contains the hash, so a changed hash in the file leaves old verdicts unused. */
  async #isRight(
    { username, password }: BasicCredentials,
    hash: string,
    source: LoginSource,
  ): Promise<boolean> {
    const key = createHmac('sha256', this.#key)
      .update(JSON.stringify([username, password, hash]))
      .digest('base64');
    if (this.#right.has(key)) return true;
    if (this.#wrong.has(key)) return false;
    const client = source.client ?? 'unknown';
    const delayed = this.#delayed(client);
    if (delayed !== undefined) throw delayed;
    const late = AbortSignal.timeout(checkMs);
    const check = this.#checking.join(key, () => this.#check(key, { password, hash }, client, late));
    try {
      return await waitFor(check, AbortSignal.any([source.signal, late]));
    } catch (error) {
      if (error instanceof ChecksBusy || (late.aborted && !source.signal.aborted))
        throw new LoginDelayed(busySeconds);
      throw error;
    }
  }

  async #check(
    key: string,
    check: { readonly password: string; readonly hash: string },
    client: string,
    late: AbortSignal,
  ): Promise<boolean> {
    const isRight = await this.#checks.compare(check, {
      name: client,
      refusal: () => (late.aborted ? new ChecksBusy('its turn did not come in time') : this.#delayed(client)),
      isSuspect: () => !this.#failures.isFull(client),
    });
    if (isRight) this.#right.set(key, true);
    else {
      this.#wrong.set(key, true);
      this.#failures.take(client);
    }
    return isRight;
  }

  #delayed(client: string): LoginDelayed | undefined {
    const seconds = this.#failures.secondsUntilToken(client);
    return seconds > 0 ? new LoginDelayed(seconds) : undefined;
  }
}
