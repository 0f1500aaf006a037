import type { IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';
import type { Network } from '../config/values.js';

/** A set of addresses. */
export class Networks {
  readonly #list = new BlockList();

  constructor(networks: readonly Network[]) {
    for (const { address, prefix, family } of networks) this.#list.addSubnet(address, prefix, family);
  }

  has(address: string | undefined): boolean {
    const version = address === undefined ? 0 : isIP(address);
    return (
      version !== 0 && address !== undefined && this.#list.check(address, version === 4 ? 'ipv4' : 'ipv6')
    );
  }
}

/** A request, as far as it says where it comes from. */
export type Connected = Pick<IncomingMessage, 'headers'> & {
  readonly socket: { readonly remoteAddress?: string | undefined };
};

/** Where requests really come from. */
export class ClientAddresses {
  readonly #proxies: Networks;

  constructor(proxies: readonly Network[]) {
    this.#proxies = new Networks(proxies);
  }

  /** Whether a trusted proxy has made the connection. */
  isProxied({ remoteAddress }: { readonly remoteAddress?: string | undefined }): boolean {
    return this.#proxies.has(plain(remoteAddress ?? ''));
  }

  /**
   * The address of the connection; behind a trusted proxy the last one in `X-Forwarded-For` that is no trusted proxy
   * itself, because those before it are what the client says. `undefined` where that cannot be told.
   */
  of({ socket, headers }: Connected): string | undefined {
    const direct = plain(socket.remoteAddress ?? '');
    if (!this.#proxies.has(direct)) return direct;
    const given = headers['x-forwarded-for'];
    const hops = (Array.isArray(given) ? given.join() : (given ?? '')).split(',').toReversed();
    for (const hop of hops) {
      const address = plain(hop.trim());
      if (!this.#proxies.has(address)) return address;
    }
    return undefined;
  }
}

/**
 * The key under which a limit counts a client: its IPv4 address, or its IPv6 network of 64 bits, because one machine
 * can use every address of such a network.
 */
export function clientKey(address: string | undefined): string | undefined {
  if (address === undefined || isIP(address) !== 6) return address;
  const [before, after] = address
    .toLowerCase()
    .split('::')
    .map((part) => part.split(':').filter((group) => group !== ''));
  const tail = after ?? [];
  const length = (before?.length ?? 0) + tail.length + (tail.at(-1)?.includes('.') === true ? 1 : 0);
  const groups = [...(before ?? []), ...Array.from({ length: Math.max(0, 8 - length) }, () => '0'), ...tail];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}

/** Without a port, brackets and IPv6's way to write IPv4; `undefined` where it is no address. */
function plain(text: string): string | undefined {
  const bare = /^\[(.+)\](?::\d+)?$/.exec(text)?.[1] ?? /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(text)?.[1] ?? text;
  const address = bare.replace(/^::ffff:(?=\d+\.)/i, '');
  return isIP(address) === 0 ? undefined : address;
}
