import { lookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { buildConnector } from 'undici';
import { isListed } from './realm.js';
import { UpstreamError } from './upstream.js';

/** How far inside an address is: 0 public, 1 private, 2 loopback, 3 link-local and the metadata services of clouds. */
export type Depth = 0 | 1 | 2 | 3;

const networks = (
  [
    [3, ['169.254.0.0/16', '100.100.100.200/32', 'fe80::/10', 'fd00:ec2::254/128']],
    [2, ['127.0.0.0/8', '0.0.0.0/8', '::1/128', '::/128']],
    [1, ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', '192.0.0.0/24']],
    [1, ['198.18.0.0/15', '224.0.0.0/3', 'fc00::/7', 'fec0::/10', 'ff00::/8']],
  ] satisfies readonly (readonly [Depth, readonly string[]])[]
).map(([depth, subnets]) => ({ depth, subnets: subnets.map((subnet) => ipaddr.parseCIDR(subnet)) }));

/** The positions, within an IPv6 address, of the bytes of an embedded IPv4 address. */
type Place = readonly [number, number, number, number];

const last: Place = [12, 13, 14, 15];

/** IPv6 prefixes that embed an IPv4 address, and the possible positions of that address. */
const carriers = (
  [
    ['::/96', [last]], // IPv4-compatible (RFC 4291 §2.5.5.1)
    ['::ffff:0:0/96', [last]], // IPv4-mapped (RFC 4291 §2.5.5.2)
    ['::ffff:0:0:0/96', [last]], // IPv4-translated (RFC 2765 §2.1)
    ['64:ff9b::/96', [last]], // NAT64, well-known prefix (RFC 6052 §2.1)
    // NAT64, prefixes for local use (RFC 8215). Their length is unknown: 48, 56, 64 or 96 bits (RFC 6052 §2.2).
    ['64:ff9b:1::/48', [last, [6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]]],
    ['2002::/16', [[2, 3, 4, 5]]], // 6to4 (RFC 3056 §2)
  ] satisfies readonly (readonly [string, readonly Place[]])[]
).map(([subnet, places]) => ({ subnet: ipaddr.parseCIDR(subnet), places }));

/** Teredo: the server's address in clear, and the client's address with its bits inverted (RFC 4380 §4). */
const teredo = ipaddr.parseCIDR('2001::/32');

/** An IPv6 address that embeds IPv4 addresses is at least as far inside as the innermost of them. */
export function depthOf(address: string): Depth {
  if (!ipaddr.isValid(address)) return 3;
  const parsed = ipaddr.parse(address);
  const own = depthIn(parsed);
  if (parsed.kind() === 'ipv4') return own;
  return carriedBy(parsed).reduce<Depth>((depth, carried) => deeper(depth, depthIn(carried)), own);
}

function depthIn(address: ipaddr.IPv4 | ipaddr.IPv6): Depth {
  return networks.find(({ subnets }) => subnets.some((subnet) => isIn(address, subnet)))?.depth ?? 0;
}

function deeper(one: Depth, other: Depth): Depth {
  return one > other ? one : other;
}

function carriedBy(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4[] {
  const bytes = address.toByteArray();
  const read = (place: Place): number[] => place.map((index) => bytes[index] ?? 0);
  if (isIn(address, teredo)) {
    const client = read(last).map((byte) => byte ^ 0xff);
    return [new ipaddr.IPv4(read([4, 5, 6, 7])), new ipaddr.IPv4(client)];
  }
  const carrier = carriers.find(({ subnet }) => isIn(address, subnet));
  const carried = (carrier?.places ?? []).map((place) => new ipaddr.IPv4(read(place)));
  // If the position is unknown, a candidate that no network can reach is not the embedded address.
  return carried.length === 1
    ? carried
    : carried.filter((each) => !unreachable.some((net) => isIn(each, net)));
}

/** "This network" and class E: no translator passes them on. */
const unreachable = [ipaddr.parseCIDR('0.0.0.0/8'), ipaddr.parseCIDR('240.0.0.0/4')];

function isIn(address: ipaddr.IPv4 | ipaddr.IPv6, subnet: [ipaddr.IPv4 | ipaddr.IPv6, number]): boolean {
  return address.kind() === subnet[0].kind() && address.match(subnet);
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
