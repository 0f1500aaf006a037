import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

export const ecKeys = (): KeyPair => generateKeyPairSync('ec', { namedCurve: 'P-256' });

export interface TokenParts {
  readonly head?: Readonly<Record<string, unknown>>;
  readonly claims?: Readonly<Record<string, unknown>>;
  /** Instead of an ES256 signature. */
  readonly signature?: (signed: string) => string;
}

export const tokenIssuer = 'test-issuer';
export const tokenService = 'test-mirror';

/** A token that lets its bearer pull `team/app` for a minute, but for what is said otherwise. */
export function signedToken({ privateKey }: KeyPair, { head, claims, signature }: TokenParts = {}): string {
  const now = Math.floor(Date.now() / 1000);
  const about = {
    iss: tokenIssuer,
    sub: 'ann',
    aud: tokenService,
    nbf: now - 10,
    exp: now + 60,
    access: [pull('team/app')],
    ...claims,
  };
  const signed = `${base64url({ typ: 'JWT', alg: 'ES256', ...head })}.${base64url(about)}`;
  const own = (): string =>
    sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url');
  return `${signed}.${signature === undefined ? own() : signature(signed)}`;
}

export function pull(name: string) {
  return { type: 'repository', name, actions: ['pull'] };
}

/** A key set with one public key (RFC 7517). */
export function keySet({ publicKey }: KeyPair, kid: string): string {
  return JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' }] });
}

function base64url(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
