import { createHash, createPublicKey, X509Certificate, type KeyObject } from 'node:crypto';
import type { TokenConfig } from '../config/config.js';
import { WatchedFile, type FileLog } from '../config/watched-file.js';
import { CertificateChains } from './certificate-chain.js';

/** What tokens may be signed with. */
export interface TokenKeys {
  /** By every name that a token may have for one (`kid`). */
  readonly byId: ReadonlyMap<string, KeyObject>;
  /** Checks chains against the certificates of the bundle; `undefined` if there is no bundle. */
  readonly chains: CertificateChains | undefined;
}

/** A file of keys has none that can be used. */
export class TokenKeysError extends Error {
  override readonly name = 'TokenKeysError';
  readonly code = 'token-keys';
}

/** The keys of `auth.token`, as its files have them now. */
export class TokenKeyFiles {
  readonly #files: readonly WatchedFile<TokenKeys>[];

  /** @throws where a file cannot be used; later that is told, and what it had before stays. */
  constructor({ rootcertbundle, jwks }: Pick<TokenConfig, 'rootcertbundle' | 'jwks'>, log: FileLog) {
    this.#files = [
      ...(rootcertbundle === undefined ? [] : [new WatchedFile(rootcertbundle, parseBundle, log)]),
      ...(jwks === undefined ? [] : [new WatchedFile(jwks, parseKeySet, log)]),
    ];
    for (const file of this.#files) file.readSync();
  }

  async now(): Promise<TokenKeys> {
    return together(await Promise.all(this.#files.map((file) => file.read())));
  }
}

function together(parts: readonly TokenKeys[]): TokenKeys {
  const [first, ...others] = parts;
  if (first !== undefined && others.length === 0) return first;
  return {
    byId: new Map(parts.flatMap((part) => [...part.byId])),
    chains: parts.find(({ chains }) => chains !== undefined)?.chains,
  };
}

function parseBundle(text: string): TokenKeys {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) throw new TokenKeysError('no certificate in the bundle');
  const roots = blocks.map((block) => new X509Certificate(block));
  return {
    byId: new Map(roots.flatMap(({ publicKey }) => named(publicKey))),
    chains: new CertificateChains(roots),
  };
}

/** A key set, or a single key (RFC 7517). Secrets are no keys: whoever checks a token could then make one. */
function parseKeySet(text: string): TokenKeys {
  const parsed = JSON.parse(text) as { keys?: unknown } | null;
  const entries: unknown[] = Array.isArray(parsed?.keys) ? parsed.keys : [parsed];
  const byId = new Map(
    entries.flatMap((entry) => {
      const key = publicKeyOf(entry);
      if (key === undefined) throw new TokenKeysError('the key set has something that is no public key');
      const { kid } = entry as { kid?: unknown };
      return [...named(key), ...(typeof kid === 'string' ? [[kid, key] as const] : [])];
    }),
  );
  if (byId.size === 0) throw new TokenKeysError('no key in the set');
  return { byId, chains: undefined };
}

/** The public half of a key as JSON has it (RFC 7517); `undefined` where there is none. */
export function publicKeyOf(jwk: unknown): KeyObject | undefined {
  if (typeof jwk !== 'object' || jwk === null) return undefined;
  try {
    return createPublicKey({ key: { ...jwk }, format: 'jwk' });
  } catch {
    return undefined; // whatever it is, nothing can be verified with it
  }
}

function named(key: KeyObject): [string, KeyObject][] {
  return [
    [thumbprint(key), key],
    [libtrustId(key), key],
  ];
}

/** RFC 7638, as registry 3 names keys. */
export function thumbprint(key: KeyObject): string {
  const { crv, e, kty, n, x, y } = key.export({ format: 'jwk' });
  // In this order, and without those that the kind of key does not have.
  return createHash('sha256').update(JSON.stringify({ crv, e, kty, n, x, y })).digest('base64url');
}

/** As registry 2 names keys: 240 bits of the key's hash in base32, in twelve groups of four. */
function libtrustId(key: KeyObject): string {
  const der = key.export({ type: 'spki', format: 'der' });
  const bits = [...createHash('sha256').update(der).digest().subarray(0, 30)]
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('');
  const letters = (bits.match(/.{5}/g) ?? []).map((group) => base32.charAt(Number.parseInt(group, 2)));
  return (letters.join('').match(/.{4}/g) ?? []).join(':');
}

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
