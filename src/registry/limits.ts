import type { ServerResponse } from 'node:http';
import { LRUCache } from 'lru-cache';
import type { HttpLimits } from '../config/config.js';
import type { ParsedPath } from '../oci/path.js';
import type { ClientAddresses } from './client-address.js';
import { RegistryError } from './errors.js';
import type { Exchange } from './exchange.js';

/** More addresses than that are forgotten, the longest unseen first: each then starts anew. */
const mostAddresses = 50_000;
const busySeconds = 2;

/** Requests that an address may still make, as of a time in seconds. */
interface Bucket {
  left: number;
  asOf: number;
}

/** `http.limits`, as far as they are about requests. What was answered when it came costs one comparison. */
export class Limits {
  readonly #buckets = new LRUCache<string, Bucket>({ max: mostAddresses });
  #held = 0;

  constructor(
    private readonly limits: Pick<HttpLimits, 'requests' | 'rate' | 'burst' | 'urlsize'>,
    private readonly addresses: ClientAddresses,
    /** Milliseconds of a clock that never goes back. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Before anything is done for a request. Throws the refusal as RegistryError. */
  check({ request }: Pick<Exchange, 'request'>, parsed: ParsedPath | undefined): void {
    const { rate, urlsize } = this.limits;
    if ((request.url ?? '').length > urlsize)
      throw new RegistryError('URL_TOO_LONG', `at most ${urlsize} bytes`);
    if (rate !== undefined) this.#take(this.addresses.of(request) ?? 'unknown', rate, parsed);
    if (this.areReached) {
      throw refusal('UNAVAILABLE', busySeconds, 'the mirror answers as many requests as it may at a time');
    }
  }

  /** Whether as many requests are being answered as may be. */
  get areReached(): boolean {
    return this.#held >= this.limits.requests;
  }

  /** Of a request that is not answered at once: it counts until its answer is over. */
  hold(response: ServerResponse): void {
    if (response.closed) return;
    this.#held += 1;
    response.once('close', () => (this.#held -= 1));
  }

  /** A token bucket for each address. */
  #take(address: string, rate: number, parsed: ParsedPath | undefined): void {
    const { burst } = this.limits;
    const asOf = this.now() / 1000;
    const bucket = this.#buckets.get(address);
    const left = bucket === undefined ? burst : Math.min(burst, bucket.left + (asOf - bucket.asOf) * rate);
    this.#buckets.set(address, { left: Math.max(0, left - 1), asOf });
    if (left >= 1) return;
    const message = `more than ${rate} requests a second from ${address}`;
    throw refusal(isOnlySource(parsed) ? 'TOOMANYREQUESTS' : 'UNAVAILABLE', (1 - left) / rate, message);
  }
}

/** Clients take 503 as "use your next host"; 429 makes some wait, which is right where there is no next one. */
function refusal(code: 'UNAVAILABLE' | 'TOOMANYREQUESTS', seconds: number, message: string): RegistryError {
  const headers = { 'Retry-After': String(Math.max(1, Math.ceil(seconds))) };
  return new RegistryError(code, undefined, headers, message);
}

/** Whether the image was named through this mirror (`mirror.example/ghcr.io/owner/image`). */
function isOnlySource(parsed: ParsedPath | undefined): boolean {
  if (parsed === undefined || !('name' in parsed.target)) return false;
  return !parsed.query?.get('ns') && /^[^/]*[.:][^/]*\//.test(parsed.target.name);
}
