import { isIPv6 } from 'node:net';

/** Where to listen. Without a host: on every address. Port 0: one that the system chooses. */
export interface ListenAddress {
  readonly host?: string;
  readonly port: number;
}

const form = /^(?:\[([^\]]+)\]|([A-Za-z0-9._-]*)):(\d{1,5})$/;

/** Reads `:5000`, `127.0.0.1:5000`, `[::1]:5000` or `localhost:5000`, as Go's net.Listen does; `undefined` for anything else. */
export function parseListen(address: string): ListenAddress | undefined {
  const match = form.exec(address);
  if (match === null) return undefined;
  const [, ipv6, name, digits] = match;
  const port = Number(digits);
  if (port > 65_535) return undefined;
  if (ipv6 !== undefined) return isIPv6(ipv6) ? { host: ipv6, port } : undefined;
  return name === undefined || name === '' ? { port } : { host: name, port };
}
