import { parseDigest } from '../oci/digest.js';
import { parseTag } from '../oci/name.js';
import type { ContentTarget } from '../oci/path.js';
import type { CallerCheck, Wanted } from '../upstream/caller.js';
import type { Route } from '../upstream/directory.js';
import type { Caller } from './access-control.js';
import { parseBasic } from './basic.js';
import { RegistryError, unknownContent } from './errors.js';
import type { Exchange } from './exchange.js';

/** What the grants say of whoever asks. */
type Asker = Pick<Caller, 'neverAsked' | 'letIn'>;

/**
 * `verifycaller`: who asks for content of such an upstream has to be somebody who may read it there. Whatever is
 * cached here, the upstream is asked first, with the caller's own credential. While it cannot be asked, nobody is
 * let in whom it has not allowed within the last minutes.
 */
export class CallerGate {
  /** By the upstream's host; those that are missing here let everybody in. */
  constructor(private readonly checks: ReadonlyMap<string, CallerCheck>) {}

  /** The catalogue names what many upstreams have, and none of them can be asked about all of it. */
  guardCatalogue(): void {
    if (this.checks.size > 0) throw new RegistryError('DENIED', 'not shown while upstreams verify callers');
  }

  /** Of a ping, which clients send to learn what will be asked of them. Throws the challenge as RegistryError. */
  greet(exchange: Exchange, host: string | undefined, asker: Asker | undefined): void {
    if (host === undefined || asker?.neverAsked === true || !this.checks.has(host)) return;
    if (parseBasic(exchange.request.headers.authorization) === undefined) throw challenge(host);
  }

  /** `undefined` where there is nothing to ask. Rejects with RegistryError, or with UpstreamError of kind `trouble`. */
  admit(
    exchange: Exchange,
    route: Route,
    target: ContentTarget,
    asker: Asker | undefined,
  ): Promise<void> | undefined {
    const check = this.checks.get(route.host);
    if (check === undefined || asker?.letIn === true) return undefined;
    return this.#ask(check, exchange, route, target, asker?.neverAsked === true);
  }

  async #ask(
    check: CallerCheck,
    exchange: Exchange,
    route: Route,
    target: ContentTarget,
    neverAsked: boolean,
  ): Promise<void> {
    const refusal = () => (neverAsked ? new RegistryError('DENIED') : challenge(route.host));
    const wanted = wantedOf(target);
    const caller = parseBasic(exchange.request.headers.authorization);
    if (caller === undefined) throw refusal();
    const verdict = await check.ask(caller, route.name, wanted, exchange.signal);
    switch (verdict) {
      case 'allowed':
        return;
      case 'refused':
        throw refusal();
      case 'denied':
        throw new RegistryError('DENIED');
      case 'unknown':
        throw unknownContent(exchange.handler);
    }
  }
}

function wantedOf(target: ContentTarget): Wanted {
  switch (target.kind) {
    case 'manifest': {
      const reference = parseDigest(target.reference) ?? parseTag(target.reference);
      if (reference !== undefined) return { kind: 'manifest', reference };
      throw new RegistryError(target.reference.includes(':') ? 'DIGEST_INVALID' : 'TAG_INVALID');
    }
    case 'blob': {
      const reference = parseDigest(target.reference);
      if (reference === undefined) throw new RegistryError('DIGEST_INVALID');
      return { kind: 'blob', reference };
    }
    case 'tags':
    case 'referrers':
      return { kind: 'tags' };
  }
}

function challenge(host: string): RegistryError {
  return new RegistryError('UNAUTHORIZED', undefined, { 'WWW-Authenticate': `Basic realm="${host}"` });
}
