import type { ServerResponse } from 'node:http';
import type { HttpLimits } from '../config/config.js';
import { Shares } from '../memory/shares.js';
import type { ParsedPath } from '../oci/path.js';
import { clientKey, type ClientAddresses } from './client-address.js';
import { retryLater, RegistryError } from './errors.js';
import type { Exchange } from './exchange.js';
import { refusal } from './refusal.js';
import { TokenBuckets } from './token-buckets.js';

const busySeconds = 2;

/** The part of `http.limits` that is about requests. An answer from memory costs one comparison. */
export class Limits {
  readonly #buckets: TokenBuckets | undefined;
  /** Running requests by their client. */
  readonly #requests: Shares;
  /** Running requests with a login, by their user. */
  readonly #users: Shares;

  constructor(
    private readonly limits: Pick<HttpLimits, 'requests' | 'rate' | 'burst' | 'urlsize'>,
    private readonly addresses: ClientAddresses,
    /** Milliseconds of a clock that never goes back. */
    now: () => number = () => performance.now(),
  ) {
    const { requests, rate, burst } = limits;
    this.#buckets = rate === undefined ? undefined : new TokenBuckets(rate, burst, now);
    this.#requests = new Shares(requests);
    this.#users = new Shares(requests);
  }

  /** Call this before any work for a request. Throws the refusal as RegistryError. */
  check({ request }: Pick<Exchange, 'request'>, parsed: ParsedPath | undefined): void {
    const { rate, urlsize } = this.limits;
    if ((request.url ?? '').length > urlsize)
      throw new RegistryError('URL_TOO_LONG', `at most ${urlsize} bytes`);
    if (this.#buckets !== undefined) {
      const client = clientKey(this.addresses.of(request)) ?? 'an unknown address';
      const seconds = this.#buckets.take(client);
      if (seconds > 0) throw refusal(parsed, seconds, `more than ${rate} requests a second from ${client}`);
    }
    if (this.#requests.haveRoomForAll) return;
    if (this.#requests.haveRoomFor(clientKey(this.addresses.of(request)))) return;
    throw this.areReached ? tooManyRequests('') : tooManyRequests(' of this address');
  }

  /** Whether `http.limits.requests` requests are running. */
  get areReached(): boolean {
    return this.#requests.areTaken;
  }

  /** Counts a request that is not answered at once, until its response closes. */
  hold({ request, response }: Pick<Exchange, 'request' | 'response'>): void {
    holdUntilClosed(response, this.#requests, clientKey(this.addresses.of(request)));
  }

  /** Counts it for its user too, once the user is known. Throws the refusal as RegistryError. */
  holdForUser({ response }: Pick<Exchange, 'response'>, user: string): void {
    if (!this.#users.haveRoomFor(user)) throw tooManyRequests(' of this user');
    holdUntilClosed(response, this.#users, user);
  }
}

function holdUntilClosed(response: ServerResponse, shares: Shares, client: string | undefined): void {
  if (response.closed) return;
  response.once('close', shares.take(client));
}

/** Always 503: another host of the client may be free. */
function tooManyRequests(whose: '' | ' of this address' | ' of this user'): RegistryError {
  const message = `too many concurrent requests${whose}`;
  return retryLater('UNAVAILABLE', busySeconds, message);
}
