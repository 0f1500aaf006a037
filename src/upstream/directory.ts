import { parseRepository, type Repository } from '../oci/name.js';
import type { Upstream } from './upstream.js';

/** One host whose content is served here. */
export interface DirectoryEntry {
  /** `undefined`: what is stored is served, and nobody is asked. Only the default may lack one. */
  readonly upstream: Upstream | undefined;
  /** The look-up key: `docker.io`, `registry.local:5000`. */
  readonly host: string;
  /** Other look-up keys. Docker Hub's names for itself need not be listed. */
  readonly aliases: readonly string[];
  /** Host names of this mirror that stand for it; without a port they mean any. */
  readonly hosts: readonly string[];
  readonly isDefault: boolean;
  /**
   * Whether a name of one component gets Docker Hub's `library/` in front: never; where a client named the host
   * itself (`explicit`); or on the default route as well (`always`).
   */
  readonly library: 'never' | 'explicit' | 'always';
}

/** What of a request says where it leads. */
export interface RouteQuery {
  /** The query parameter `ns`: the registry that the client means. */
  readonly ns?: string | undefined;
  /** The header `Host`. */
  readonly hostHeader?: string | undefined;
  /** The repository as it stands in the path; the name of an upstream, even with a port, may be in front. */
  readonly name: string;
}

export interface Route {
  /** `undefined`: read-only. */
  readonly upstream: Upstream | undefined;
  readonly host: string;
  /** The upstream's own name. */
  readonly name: Repository;
  /** The name in the store's tree: the default upstream's without a prefix, the others' under their host. */
  readonly stored: Repository;
}

export type RouteCode = 'name-unknown' | 'name-invalid';

export class RouteError extends Error {
  override readonly name = 'RouteError';
  constructor(
    readonly code: RouteCode,
    message: string,
  ) {
    super(message);
  }
}

/** Docker Hub's names for itself. They are one. */
export const dockerHubHosts: readonly string[] = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];

/** What `library` has to be for a host, by where its content really comes from. */
export function libraryRule(upstream: {
  readonly host: string;
  /** The URL of the upstream. */
  readonly url: string | undefined;
  readonly isDefault: boolean;
  /** Whether the configuration says that it stands for `host`. */
  readonly hostexplicit: boolean;
}): DirectoryEntry['library'] {
  if (!dockerHubHosts.includes(upstream.host)) return 'never';
  if (!upstream.isDefault || upstream.hostexplicit) return 'always';
  // A private registry that stands for docker.io only by default keeps its own bare names, as in registry:2.
  const hostname = upstream.url === undefined ? undefined : URL.parse(upstream.url)?.hostname;
  return hostname !== undefined && dockerHubHosts.includes(hostname) ? 'always' : 'explicit';
}

interface Place extends DirectoryEntry {
  /** What stored names begin with: empty, or the host and a slash. */
  readonly prefix: string;
}

/**
 * The closed list of upstreams. What a request names is looked up in it and never dialled; a host that is not in it
 * is an unknown name, so that clients go on to their next host.
 */
export class UpstreamDirectory {
  readonly #byName = new Map<string, Place>();
  readonly #byHost = new Map<string, Place>();
  /** By the first component of stored names. */
  readonly #byPrefix = new Map<string, Place>();
  readonly #default: Place | undefined;

  /** @throws TypeError where two entries claim the same name, or a host cannot be part of a stored name. */
  constructor(readonly entries: readonly DirectoryEntry[]) {
    for (const entry of entries) {
      const prefix = entry.isDefault ? '' : `${entry.host.toLowerCase().replaceAll(':', '__')}/`;
      const place = { ...entry, prefix };
      if (prefix !== '') this.#claimPrefix(place);
      for (const name of namesOf(entry)) claim(this.#byName, name, place);
      for (const host of lowerCase(entry.hosts)) claim(this.#byHost, host, place);
    }
    const defaults = [...new Set(this.#byName.values())].filter((place) => place.isDefault);
    if (defaults.length > 1) throw new TypeError('more than one upstream is the default');
    this.#default = defaults[0];
  }

  /**
   * In this order: `ns`, the host that was asked, a first path component that names an upstream, the default.
   * @throws RouteError
   */
  route({ ns, hostHeader, name }: RouteQuery): Route {
    if (ns !== undefined && ns !== '') {
      const named = this.#byName.get(ns.toLowerCase());
      if (named === undefined) throw unknown(`this mirror has no upstream for ${quote(ns)}`);
      return this.#routeIn(named, name, true);
    }
    const asked = this.#byHost.size === 0 ? undefined : this.#placeOfHost(hostHeader);
    if (asked !== undefined) return this.#routeIn(asked, name, true);
    const slash = name.indexOf('/');
    if (slash > 0) {
      const first = name.slice(0, slash).toLowerCase();
      const prefixed = this.#byName.get(first);
      if (prefixed !== undefined) return this.#routeIn(prefixed, name.slice(slash + 1), true);
      // Docker Hub has no such names: somebody means a registry that is not served here.
      if (this.#default?.library === 'always' && looksLikeHost(first)) {
        throw unknown(`this mirror has no upstream for ${quote(first)}`);
      }
    }
    if (this.#default === undefined) throw unknown('this mirror has no default upstream');
    return this.#routeIn(this.#default, name, false);
  }

  /** Whose content a request without a name is about; `undefined` where nobody's. */
  hostOf({ ns, hostHeader }: Omit<RouteQuery, 'name'>): string | undefined {
    if (ns !== undefined && ns !== '') return this.#byName.get(ns.toLowerCase())?.host;
    return (this.#placeOfHost(hostHeader) ?? this.#default)?.host;
  }

  /** A stored name as users write it: with its host in front, unless that is the default's. */
  imageName(stored: Repository): string {
    const { host, name } = this.placeOf(stored);
    return name === stored ? stored : `${host}/${name}`;
  }

  /** Whose a stored name is, and what it is called there. */
  placeOf(stored: Repository): { readonly host: string; readonly name: string } {
    const slash = stored.indexOf('/');
    const place = slash === -1 ? undefined : this.#byPrefix.get(stored.slice(0, slash));
    if (place === undefined) return { host: this.#default?.host ?? '', name: stored };
    return { host: place.host, name: stored.slice(slash + 1) };
  }

  #routeIn(place: Place, text: string, explicit: boolean): Route {
    const bare = place.library === 'always' || (explicit && place.library === 'explicit');
    const name = parseRepository(bare && !text.includes('/') ? `library/${text}` : text);
    if (name === undefined) throw new RouteError('name-invalid', `not a repository name: ${quote(text)}`);
    if (place.isDefault) {
      // Such a name would share its place in the tree with another upstream's content.
      const first = name.slice(0, Math.max(name.indexOf('/'), 0));
      if (this.#byPrefix.has(first)) throw unknown(`the tree of ${quote(first)} belongs to another upstream`);
      return { upstream: place.upstream, host: place.host, name, stored: name };
    }
    const stored = parseRepository(place.prefix + name);
    if (stored === undefined) {
      throw new RouteError('name-invalid', `too long with its host in front: ${quote(text)}`);
    }
    return { upstream: place.upstream, host: place.host, name, stored };
  }

  #placeOfHost(header: string | undefined): Place | undefined {
    if (header === undefined) return undefined;
    const host = header.toLowerCase();
    const whole = this.#byHost.get(host);
    if (whole !== undefined) return whole;
    const colon = host.lastIndexOf(':');
    return colon === -1 || host.endsWith(']') ? undefined : this.#byHost.get(host.slice(0, colon));
  }

  #claimPrefix(place: Place): void {
    const component = place.prefix.slice(0, -1);
    if (parseRepository(component) === undefined) {
      throw new TypeError(`the host ${quote(place.host)} cannot stand in front of a repository name`);
    }
    claim(this.#byPrefix, component, place);
  }
}

/** Each once. */
function lowerCase(names: readonly string[]): Set<string> {
  return new Set(names.map((name) => name.toLowerCase()));
}

function namesOf({ host, aliases }: DirectoryEntry): Set<string> {
  const names = lowerCase([host, ...aliases]);
  if (dockerHubHosts.some((name) => names.has(name))) for (const name of dockerHubHosts) names.add(name);
  return names;
}

function claim(map: Map<string, Place>, name: string, place: Place): void {
  const holder = map.get(name);
  if (holder !== undefined) {
    throw new TypeError(`${quote(name)} stands for two upstreams, ${holder.host} and ${place.host}`);
  }
  map.set(name, place);
}

/** The rule by which Docker tells a host from the first part of a name. */
function looksLikeHost(component: string): boolean {
  return component.includes('.') || component.includes(':') || component === 'localhost';
}

function unknown(message: string): RouteError {
  return new RouteError('name-unknown', message);
}

/** Of a client's text in a message, no more than a name may have, and nothing that breaks a line. */
function quote(text: string): string {
  return JSON.stringify(text.slice(0, 255));
}
