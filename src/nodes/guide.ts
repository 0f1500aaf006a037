import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { AccessControl, AdmissionRequest } from '../registry/access-control.js';
import type { ClientAddresses } from '../registry/client-address.js';
import type { UpstreamDirectory } from '../upstream/directory.js';
import { mirrorAt, parseHost, type MirrorAddress } from './hosts.js';

export interface GuideOptions {
  readonly directory: UpstreamDirectory;
  readonly addresses: ClientAddresses;
  /** `undefined`: everybody may pull everything. */
  readonly control: AccessControl | undefined;
  /** Hosts where the upstream says who may pull: nobody is told of them here. */
  readonly verified: ReadonlySet<string>;
}

/** What a mirror tells those who want to pull through it. Nothing of it is secret. */
export class Guide {
  constructor(private readonly options: GuideOptions) {}

  /**
   * Where whoever asks has reached the mirror. Only what a trusted proxy says of that is believed. `undefined` where
   * the request does not say it in a way that may be repeated.
   */
  addressOf({ headers, socket }: IncomingMessage): MirrorAddress | undefined {
    const proxied = this.options.addresses.isProxied(socket);
    const secure = proxied ? last(headers['x-forwarded-proto']) : undefined;
    const host = parseHost((proxied ? last(headers['x-forwarded-host']) : undefined) ?? headers.host ?? '');
    if (host === undefined || (secure !== undefined && secure !== 'http' && secure !== 'https'))
      return undefined;
    return mirrorAt(secure === undefined ? isEncrypted(socket) : secure === 'https', host);
  }

  /** The upstream hosts whose images this client may pull. Throws RegistryError if a login is needed to decide. */
  async registriesFor(asked: AdmissionRequest): Promise<string[]> {
    const { directory, control, verified } = this.options;
    const caller = await control?.admit(asked, undefined);
    const entries = directory.entries.filter(
      ({ host }) =>
        !verified.has(host) &&
        (control === undefined || caller === undefined || control.mayPullFrom(caller, host)),
    );
    // Under its further names an upstream may be known inside alone, as by the address in its URL.
    return [...new Set(entries.flatMap(({ host }) => parseHost(host) ?? []))];
  }
}

/** Of several, what the nearest proxy has added. */
function last(header: string | string[] | undefined): string | undefined {
  return (Array.isArray(header) ? header.join() : header)?.split(',').at(-1)?.trim();
}

function isEncrypted(socket: IncomingMessage['socket'] | TLSSocket): boolean {
  return 'encrypted' in socket && socket.encrypted === true;
}
