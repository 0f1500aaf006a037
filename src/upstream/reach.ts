import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { buildConnector } from 'undici';
import { isListed } from './realm.js';
import { UpstreamError } from './upstream.js';

/** How far inside an address is: 0 public, 1 private, 2 loopback, 3 link-local and the metadata services of clouds. */
export type Depth = 0 | 1 | 2 | 3;

const networks: readonly (readonly [Depth, readonly string[]])[] = [
  [3, ['169.254.0.0/16', '100.100.100.200/32', 'fe80::/10', 'fd00:ec2::254/128']],
  [2, ['127.0.0.0/8', '0.0.0.0/8', '::1/128', '::/128']],
  [1, ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '192.0.0.0/24']],
  [1, ['198.18.0.0/15', '224.0.0.0/3', 'fc00::/7', 'fec0::/10', 'ff00::/8']],
];
/** The well-known prefix under which NAT64 shows IPv4 addresses (RFC 6052 §2.1). */
const nat64 = '64:ff9b::';

const lists = networks.map(([depth, subnets]) => {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [network = '', bits = ''] = subnet.split('/');
    list.addSubnet(network, Number(bits), familyOf(network));
    if (isIP(network) === 4) list.addSubnet(nat64 + network, 96 + Number(bits), 'ipv6');
  }
  return { depth, list };
});

/** IPv4 addresses inside IPv6 ones, mapped or translated, are what they contain. */
export function depthOf(address: string): Depth {
  const [bare = ''] = address.split('%', 1); // without its zone
  return lists.find(({ list }) => list.check(bare, familyOf(bare)))?.depth ?? 0;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}

export interface ReachOptions {
  /** The upstream's key, for errors. */
  readonly host: string;
  readonly url: URL;
  /** Hosts, with or without a port, that may be anywhere. */
  readonly listed: readonly string[];
  /** The system's by default. */
  readonly resolve?: LookupFunction | undefined;
}

/**
 * Where an upstream may lead this mirror: by redirects, and by token realms. Its own origin was chosen by the
 * operator and may be anywhere; others only at addresses that are no further inside than the address at which the
 * upstream itself was reached, or a registry could make its mirror ask whom it likes. What counts are the addresses
 * that are connected to, not the names: a name may mean another address at each look-up.
 */
export class Reach {
  readonly #host: string;
  readonly #url: URL;
  readonly #listed: readonly string[];
  readonly #resolve: LookupFunction;
  /** The least that was seen: who was once outside does not come in. */
  #own: Depth | undefined;

  constructor({ host, url, listed, resolve = lookup }: ReachOptions) {
    this.#host = host;
    this.#url = url;
    this.#listed = listed;
    this.#resolve = resolve;
  }

  /** For undici: stands up connections to where this upstream may lead, and to nobody else. */
  connector(options: buildConnector.BuildOptions): buildConnector.connector {
    const connect = buildConnector(options);
    const connectChecked = buildConnector({ ...options, lookup: this.#lookup });
    return (target, callback) => {
      const { protocol, hostname, port } = target;
      const url = new URL(`${protocol}//${isIP(hostname) === 6 ? `[${hostname}]` : hostname}:${port}`);
      if (url.origin === this.#url.origin) {
        connect(target, (...made) => {
          this.#note(made[1]?.remoteAddress);
          callback(...made);
        });
      } else if (isListed(url, this.#listed)) {
        connect(target, callback);
      } else {
        const refusal = this.#refusalOf(url);
        if (refusal === undefined) connectChecked(target, callback);
        else callback(refusal, null);
      }
    };
  }

  /**
   * Through a proxy only what is an address by itself can be told; what names mean there is the proxy's to guard.
   * @throws UpstreamError `redirect-refused`
   */
  checkProxied(url: URL): void {
    if (url.origin === this.#url.origin || isListed(url, this.#listed)) return;
    const refusal = this.#refusalOf(url);
    if (refusal !== undefined) throw refusal;
  }

  readonly #lookup: LookupFunction = (hostname, options, callback) => {
    this.#resolve(hostname, options, (error, found, family) => {
      const addresses = typeof found === 'string' ? [found] : (found ?? []).map(({ address }) => address);
      const inside = error === null && addresses.some((address) => !this.#mayReach(address));
      callback(inside ? this.#refusal(hostname) : error, found, family);
    });
  };

  #refusalOf(url: URL): UpstreamError | undefined {
    const address = bare(url.hostname);
    return isIP(address) === 0 || this.#mayReach(address) ? undefined : this.#refusal(url.host);
  }

  #mayReach(address: string): boolean {
    return depthOf(address) <= (this.#own ?? this.#configured());
  }

  /** Before it was reached: by its address, where it has one for a name. */
  #configured(): Depth {
    const address = bare(this.#url.hostname);
    return isIP(address) === 0 ? 0 : depthOf(address);
  }

  #note(address: string | undefined): void {
    if (address === undefined) return;
    const depth = depthOf(address);
    if (this.#own === undefined || depth < this.#own) this.#own = depth;
  }

  /** The address is left out: clients are told the reason, and not what names mean inside. */
  #refusal(host: string): UpstreamError {
    const reason = `led to ${host.slice(0, 260)}, which is at an inner address; "redirects" can allow it`;
    return new UpstreamError('redirect-refused', this.#host, reason);
  }
}

/** Without the brackets of an IPv6 address in a URL. */
function bare(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
}
