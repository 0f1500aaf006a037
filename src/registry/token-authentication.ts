import type { KeyObject } from 'node:crypto';
import {
  decodeProtectedHeader,
  errors,
  jwtVerify,
  type JWTPayload,
  type ProtectedHeaderParameters,
} from 'jose';
import type { TokenConfig } from '../config/config.js';
import type { SigningAlgorithm } from '../config/values.js';
import type { Authentication, Claim, Login, LoginTrouble } from './authentication.js';
import { RegistryError } from './errors.js';
import { publicKeyOf, thumbprint, type TokenKeyFiles, type TokenKeys } from './token-keys.js';

/** Clocks may differ by this much; registry's own leeway. */
const leewaySeconds = 60;
const longestToken = 64 * 1024;

/**
 * `auth.token` of registry: bearer tokens of somebody else's token service (distribution, "Token Authentication
 * Specification" and "Token Authentication Implementation").
 */
export class TokenAuthentication implements Authentication {
  constructor(
    private readonly config: Omit<TokenConfig, 'rootcertbundle' | 'jwks'>,
    private readonly keys: Pick<TokenKeyFiles, 'now'>,
  ) {}

  async login(authorization: string | undefined): Promise<Login | 'refused' | undefined> {
    const token = /^bearer +([\w.~+/=-]+)$/i.exec(authorization ?? '')?.[1];
    if (token === undefined || token.length > longestToken) {
      return authorization === undefined ? undefined : 'refused';
    }
    const keys = await this.keys.now();
    try {
      const payload = await this.#verified(token, keys);
      return payload === undefined
        ? 'refused'
        : { user: payload.sub || undefined, claims: claimsOf(payload['access']) };
    } catch (error) {
      if (error instanceof errors.JOSEError || error instanceof TypeError) return 'refused';
      throw error;
    }
  }

  challenge(scope: string | undefined, trouble: LoginTrouble | undefined): RegistryError {
    const { realm, service } = this.config;
    const parameters = Object.entries({ realm, service, scope, error: trouble })
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}="${String(value).replaceAll(/["\\]/g, String.raw`\$&`)}"`);
    return new RegistryError('UNAUTHORIZED', undefined, {
      'WWW-Authenticate': `Bearer ${parameters.join(',')}`,
    });
  }

  async #verified(token: string, keys: TokenKeys): Promise<JWTPayload | undefined> {
    const key = await trustedKey(decodeProtectedHeader(token), keys);
    if (key === undefined) return undefined;
    const { issuer, service, signingalgorithms } = this.config;
    const algorithms = algorithmsOf(key).filter(
      (name) => signingalgorithms.length === 0 || signingalgorithms.includes(name),
    );
    const { payload } = await jwtVerify(token, key, {
      algorithms,
      issuer,
      audience: service,
      clockTolerance: leewaySeconds,
      requiredClaims: ['exp'],
    });
    return payload;
  }
}

/** The key that the token says it is signed with, if it is to be trusted. A token never brings trust of its own. */
async function trustedKey(
  { kid, x5c, jwk }: ProtectedHeaderParameters,
  keys: TokenKeys,
): Promise<KeyObject | undefined> {
  if (x5c !== undefined) {
    const isChain = Array.isArray(x5c) && x5c.every((text: unknown) => typeof text === 'string');
    return isChain ? await keys.chains?.keyOf(x5c) : undefined;
  }
  if (jwk !== undefined) {
    const key = publicKeyOf(jwk);
    return key === undefined ? undefined : keys.byId.get(thumbprint(key));
  }
  return kid === undefined ? undefined : keys.byId.get(kid);
}

const curves: Readonly<Record<string, SigningAlgorithm>> = {
  prime256v1: 'ES256',
  secp384r1: 'ES384',
  secp521r1: 'ES512',
};

/** Decided by the key alone, so that a token cannot have its signature read as something else. */
function algorithmsOf({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): SigningAlgorithm[] {
  switch (asymmetricKeyType) {
    case 'rsa':
      return ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'];
    case 'ed25519':
      return ['EdDSA'];
    case 'ec': {
      const name = curves[asymmetricKeyDetails?.namedCurve ?? ''];
      return name === undefined ? [] : [name];
    }
    default:
      return [];
  }
}

/** What is malformed grants nothing. */
function claimsOf(access: unknown): Claim[] {
  if (!Array.isArray(access)) return [];
  return access.filter((claim: unknown): claim is Claim => {
    if (typeof claim !== 'object' || claim === null) return false;
    const { type, name, actions } = claim as Partial<Record<keyof Claim, unknown>>;
    return typeof type === 'string' && typeof name === 'string' && Array.isArray(actions);
  });
}
