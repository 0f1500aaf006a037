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

/** The client that sends a login. */
export interface LoginSource {
  /** Its `clientKey`; `undefined` if its address is unknown. */
  readonly client: string | undefined;
  /** Aborts when the client disconnects. */
  readonly signal: AbortSignal;
}

/** A login that is not checked now: its address sent too many wrong passwords, or too many checks are queued. */
export class LoginDelayed extends Error {
  override readonly name = 'LoginDelayed';
  constructor(readonly seconds: number) {
    super('too many wrong passwords came from this address, or too many logins are queued');
  }
}

export type LoginTrouble = 'invalid_token' | 'insufficient_scope';

/** One of the ways to know clients by what they send. */
export interface Authentication {
  /**
   * Resolves to `undefined` if the client sent no login, and to `refused` if the login is wrong. Rejects with
   * {@link LoginDelayed}, or with the reason of the source's signal.
   */
  login(authorization: string | undefined, source: LoginSource): Promise<Login | 'refused' | undefined>;
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
