import type { TLSSocket } from 'node:tls';
import type { IncomingMessage } from 'node:http';
import type { RegistryError } from './errors.js';

/** What somebody may do by a token's own word (registry token specification, "access"). */
export interface Claim {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

export interface Login {
  /** A token may lack a name. */
  readonly user: string | undefined;
  /** `undefined`: everything; the rules of the upstreams decide. */
  readonly claims: readonly Claim[] | undefined;
}

export type LoginTrouble = 'invalid_token' | 'insufficient_scope';

/** One of the ways to know clients by what they send. */
export interface Authentication {
  /** `undefined` where nothing was sent that could be a login; `refused` where it is not right. */
  login(authorization: string | undefined): Promise<Login | 'refused' | undefined>;
  /** The error that makes clients log in. `scope`: `repository:team/app:pull`. */
  challenge(scope: string | undefined, trouble: LoginTrouble | undefined): RegistryError;
}

/** The common name of the certificate that a client's connection was made with; the server has verified it. */
export function certificateUser({ socket }: IncomingMessage): string | undefined {
  if (!('getPeerCertificate' in socket)) return undefined;
  // Several common names come as a list: then nobody can say which of them is meant.
  const name: unknown = (socket as TLSSocket).getPeerCertificate().subject?.CN;
  return typeof name === 'string' && name !== '' ? name : undefined;
}
