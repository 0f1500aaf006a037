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

export interface CertificateHolder {
  readonly user: string | undefined;
  readonly groups: readonly string[];
}

/**
 * Who the certificate of a client's connection says that it is; the server has verified it. The common name is the
 * user and each organisation a group, as Kubernetes reads them.
 */
export function certificateHolder({ socket }: IncomingMessage): CertificateHolder {
  if (!('getPeerCertificate' in socket)) return { user: undefined, groups: [] };
  const subject: { readonly CN?: unknown; readonly O?: unknown } | undefined = (
    socket as TLSSocket
  ).getPeerCertificate().subject;
  const organisations: readonly unknown[] = [subject?.O].flat();
  return {
    // Several common names come as a list: then nobody can say which of them is meant.
    user: nameOf(subject?.CN),
    groups: organisations.map(nameOf).filter((name) => name !== undefined),
  };
}

function nameOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
