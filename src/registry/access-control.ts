import type { IncomingMessage } from 'node:http';
import type { Repository } from '../oci/name.js';
import type { ParsedPath } from '../oci/path.js';
import { RouteError, type Route, type RouteQuery, type UpstreamDirectory } from '../upstream/directory.js';
import {
  certificateHolder,
  LoginDelayed,
  type Authentication,
  type CertificateHolder,
  type Claim,
  type LoginTrouble,
} from './authentication.js';
import { clientKey, type ClientAddresses } from './client-address.js';
import { RegistryError } from './errors.js';
import type { Grants, Identity } from './grants.js';
import { refusal } from './refusal.js';

export interface AccessControlOptions {
  /** `undefined`: nobody is asked for a login. */
  readonly authentication: Authentication | undefined;
  /** Whether clients are who their certificate says. Only where nobody is asked for another login. */
  readonly certificates: boolean;
  /** By the upstream's host; those that are missing are for whoever was let in. */
  readonly grants: ReadonlyMap<string, Grants>;
  /** Groups by the name of their member. */
  readonly memberships: ReadonlyMap<string, readonly string[]>;
  readonly addresses: ClientAddresses;
  readonly directory: UpstreamDirectory;
}

/** Who asks, as far as it is known. */
export interface Caller extends Identity {
  readonly claims: readonly Claim[] | undefined;
  /** Credentials were sent, and were not right. */
  readonly refused: boolean;
  /** A grant is for everybody at this address: a client there may have no way to log in, so it is never told to. */
  readonly neverAsked: boolean;
  /** Such a grant is for what is asked for: then its upstream is not asked either (`verifycaller`). */
  readonly letIn: boolean;
}

/** A request, and a signal that aborts when its client disconnects. */
export interface AdmissionRequest {
  readonly request: IncomingMessage;
  readonly signal: AbortSignal;
}

/** What is asked for: a repository, with the path's name for it; the catalogue; or nothing of anybody's. */
type Wanted = { readonly route: Route; readonly name: string } | 'catalogue' | 'nothing';

/**
 * Who may come in, and to what. Decided by the request alone, before anything is looked for: what is cached, stored
 * or running makes no difference.
 */
export class AccessControl {
  constructor(private readonly options: AccessControlOptions) {}

  /** Throws RegistryError: `UNAUTHORIZED` if a login could help, else `DENIED`; 503 or 429 if the login is delayed. */
  async admit(asked: AdmissionRequest, parsed: ParsedPath | undefined): Promise<Caller> {
    const wanted = this.#wanted(asked.request, parsed);
    const caller = await this.#callerOf(asked, wanted).catch((error: unknown) => {
      throw error instanceof LoginDelayed ? refusal(parsed, error.seconds, error.message) : error;
    });
    if (typeof wanted === 'object') this.#admitTo(wanted, caller);
    else this.#admitIn(wanted, caller);
    return caller;
  }

  /** Whether the catalogue shows a stored repository to this caller. */
  mayList(caller: Caller, stored: Repository): boolean {
    const { host, name } = this.options.directory.placeOf(stored);
    return this.#granted(caller, host, name, caller.known);
  }

  /** Whether there is anything of an upstream that this caller may pull. */
  mayPullFrom(caller: Caller, host: string): boolean {
    const grants = this.options.grants.get(host);
    return grants === undefined ? this.#isIn(caller.known) : grants.areFor(caller);
  }

  async #callerOf(asked: AdmissionRequest, wanted: Wanted): Promise<Caller> {
    const { request } = asked;
    const { authentication, certificates, addresses, grants } = this.options;
    const address = addresses.of(request);
    const stranger: Caller = {
      known: false,
      user: undefined,
      groups: [],
      claims: undefined,
      refused: false,
      address,
      neverAsked: [...grants.values()].some((each) => each.opens(address)),
      letIn:
        typeof wanted === 'object' &&
        grants.get(wanted.route.host)?.opensTo(address, wanted.route.name) === true,
    };
    if (authentication === undefined)
      return certificates
        ? { ...stranger, known: true, ...this.#withGroups(certificateHolder(request)) }
        : stranger;
    const login = await authentication.login(request.headers.authorization, {
      client: clientKey(address),
      signal: asked.signal,
    });
    if (login === undefined) return stranger;
    if (login === 'refused') return { ...stranger, refused: true };
    const { user, claims } = login;
    return { ...stranger, known: true, claims, ...this.#withGroups({ user, groups: [] }) };
  }

  /** With those that the configuration names. */
  #withGroups({ user, groups }: CertificateHolder): CertificateHolder {
    const listed = user === undefined ? undefined : this.options.memberships.get(user);
    return { user, groups: listed === undefined ? groups : [...groups, ...listed] };
  }

  /** What leads nowhere is for whoever may come in at all; the answer is made later. */
  #wanted(request: IncomingMessage, parsed: ParsedPath | undefined): Wanted {
    if (parsed === undefined) return 'nothing';
    const { target, query } = parsed;
    if (target.kind === 'catalog') return 'catalogue';
    if (!('name' in target)) return 'nothing';
    const ns = query?.get('ns') ?? undefined;
    const route = this.#route({ ns, hostHeader: request.headers.host, name: target.name });
    return route === undefined ? 'nothing' : { route, name: target.name };
  }

  #admitIn(wanted: 'catalogue' | 'nothing', caller: Caller): void {
    const scope = wanted === 'catalogue' ? 'registry:catalog:*' : undefined;
    if (!caller.known) {
      if (this.options.authentication === undefined || caller.neverAsked) return;
      throw this.#challenge(caller, scope);
    }
    if (wanted === 'nothing' || caller.claims === undefined) return;
    if (!claimed(caller.claims, ({ type, name }) => type === 'registry' && name === 'catalog', '*'))
      throw this.#challenge(caller, scope);
  }

  #admitTo({ route, name }: Exclude<Wanted, string>, caller: Caller): void {
    const { grants, authentication } = this.options;
    const lacking = caller.claims !== undefined && !this.#mayByToken(caller.claims, route);
    if (this.#granted(caller, route.host, route.name, caller.known && !lacking)) return;
    const login = grants.get(route.host)?.needLogin ?? true;
    const couldHelp = authentication !== undefined && login && (!caller.known || lacking);
    if (!couldHelp || caller.neverAsked) throw new RegistryError('DENIED');
    throw this.#challenge(caller, `repository:${this.#tokenName(route, name)}:pull`);
  }

  /** `known`: whether the login counts for this. */
  #granted(caller: Caller, host: string, name: string, known: boolean): boolean {
    const grants = this.options.grants.get(host);
    return grants === undefined ? this.#isIn(known) : grants.admit({ ...caller, known }, name);
  }

  #isIn(known: boolean): boolean {
    return known || this.options.authentication === undefined;
  }

  /**
   * Whether a token lets its bearer pull there. Names in tokens are read as paths are, whatever `ns` or `Host` the
   * request has: the same name may be another image at another upstream.
   */
  #mayByToken(claims: readonly Claim[], { stored }: Route): boolean {
    return claimed(
      claims,
      ({ type, name }) => type === 'repository' && this.#route({ name })?.stored === stored,
      'pull',
    );
  }

  /** What a token has to say: the path's own name where that leads there by itself, else with the host in front. */
  #tokenName(route: Route, name: string): string {
    return this.#route({ name })?.stored === route.stored ? name : `${route.host}/${route.name}`;
  }

  #challenge({ known, refused }: Caller, scope: string | undefined): RegistryError {
    const trouble: LoginTrouble | undefined = known
      ? 'insufficient_scope'
      : refused
        ? 'invalid_token'
        : undefined;
    const { authentication } = this.options;
    return authentication?.challenge(scope, trouble) ?? new RegistryError('DENIED');
  }

  #route(query: RouteQuery): Route | undefined {
    try {
      return this.options.directory.route(query);
    } catch (error) {
      if (error instanceof RouteError) return undefined;
      throw error;
    }
  }
}

function claimed(claims: readonly Claim[], fits: (claim: Claim) => boolean, action: string): boolean {
  return claims.some((claim) => claim.actions.includes(action) && fits(claim));
}
