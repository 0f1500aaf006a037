import type { GrantConfig } from '../config/config.js';
import { Networks } from './client-address.js';

/** What is known of whoever asks. */
export interface Identity {
  /** Whether there was a login, even one without a name. */
  readonly known: boolean;
  readonly user: string | undefined;
  readonly groups: readonly string[];
  readonly address: string | undefined;
}

/** One grant of `proxy.access`. */
class Grant {
  readonly #networks: Networks | undefined;

  constructor(private readonly config: GrantConfig) {
    this.#networks = config.networks.length === 0 ? undefined : new Networks(config.networks);
  }

  /** Whether users have to be known for it. */
  get needsLogin(): boolean {
    return this.config.users.length > 0 || this.config.groups.length > 0;
  }

  /** Whether it is for everybody at this address. */
  opens(address: string | undefined): boolean {
    return !this.needsLogin && this.#networks?.has(address) === true;
  }

  covers(repository: string): boolean {
    const { repositories } = this.config;
    return repositories.length === 0 || repositories.some((pattern) => covers(pattern, repository));
  }

  /** Whether it is for this one, whatever it lets them pull. */
  isFor(identity: Identity): boolean {
    const right = !this.needsLogin || (identity.known && this.#names(identity));
    return right && (this.#networks === undefined || this.#networks.has(identity.address));
  }

  admits(identity: Identity, repository: string): boolean {
    return this.isFor(identity) && this.covers(repository);
  }

  #names({ user, groups }: Identity): boolean {
    const { config } = this;
    return (
      config.users.some((name) => name === user || (name === '*' && user !== undefined)) ||
      config.groups.some((name) => groups.includes(name))
    );
  }
}

/** `team/*` covers all below `team`, not `team` itself. */
function covers(pattern: string, repository: string): boolean {
  if (pattern === '*') return true;
  return pattern.endsWith('/*') ? repository.startsWith(pattern.slice(0, -1)) : repository === pattern;
}

/** Who may pull what of one upstream. */
export class Grants {
  readonly #grants: readonly Grant[];

  constructor(configs: readonly GrantConfig[]) {
    this.#grants = configs.map((config) => new Grant(config));
  }

  /** Whether a login could change an answer. */
  get needLogin(): boolean {
    return this.#grants.some((grant) => grant.needsLogin);
  }

  /** Whether anything of it is for everybody at this address. */
  opens(address: string | undefined): boolean {
    return this.#grants.some((grant) => grant.opens(address));
  }

  /** Whether that holds for this repository. */
  opensTo(address: string | undefined, repository: string): boolean {
    return this.#grants.some((grant) => grant.opens(address) && grant.covers(repository));
  }

  /** Whether there is anything that they may pull. */
  areFor(identity: Identity): boolean {
    return this.#grants.some((grant) => grant.isFor(identity));
  }

  admit(identity: Identity, repository: string): boolean {
    return this.#grants.some((grant) => grant.admits(identity, repository));
  }
}

/** Groups by the name of their member, from members by the name of their group. */
export function membershipsOf(
  groups: Readonly<Record<string, readonly string[]>>,
): ReadonlyMap<string, readonly string[]> {
  const memberships = new Map<string, string[]>();
  for (const [group, members] of Object.entries(groups)) {
    for (const member of members) memberships.set(member, [...(memberships.get(member) ?? []), group]);
  }
  return memberships;
}
