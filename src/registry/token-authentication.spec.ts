import { createHmac } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  ecKeys,
  keySet,
  pull,
  signedToken,
  tokenIssuer,
  tokenService,
} from '../../test/parts/signed-token.js';
import { TokenAuthentication } from './token-authentication.js';
import { thumbprint, TokenKeyFiles } from './token-keys.js';

const keys = ecKeys();
const others = ecKeys();
const now = Math.floor(Date.now() / 1000);
const kid = 'k1';
const config = {
  realm: 'https://auth.example/token',
  service: tokenService,
  issuer: tokenIssuer,
  signingalgorithms: [],
};

let folder: string;
let jwks: string;
const told: unknown[] = [];
const files = (): TokenKeyFiles =>
  new TokenKeyFiles({ jwks, rootcertbundle: undefined }, { error: (facts: unknown) => told.push(facts) });
const login = (token: string, authentication = new TokenAuthentication(config, files())) =>
  authentication.login(`Bearer ${token}`);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cistern-token-'));
  jwks = join(folder, 'jwks.json');
  await writeFile(jwks, keySet(keys, kid));
  told.length = 0;
});
afterEach(() => rm(folder, { recursive: true }));

const jwk = (of: typeof keys) => of.publicKey.export({ format: 'jwk' });
const pem = keys.publicKey.export({ type: 'spki', format: 'pem' });
const hmac = (secret: string | Buffer) => (signed: string) =>
  createHmac('sha256', secret).update(signed).digest('base64url');

describe('a token', () => {
  it.each([
    ['by the name that the set gives its key', { head: { kid } }],
    ["by its key's thumbprint", { head: { kid: thumbprint(keys.publicKey) } }],
    ['with a key of the set in it', { head: { jwk: jwk(keys) } }],
    ['for several services', { head: { kid }, claims: { aud: ['other', tokenService] } }],
    ['over for less than the clocks may differ', { head: { kid }, claims: { exp: now - 30 } }],
  ])('that is right is taken: %s', async (_, parts) => {
    expect(await login(signedToken(keys, parts))).toEqual({ user: 'ann', claims: [pull('team/app')] });
  });

  it.each<[string, Parameters<typeof signedToken>[1]]>([
    ['expired', { head: { kid }, claims: { exp: now - 120 } }],
    ['not valid yet', { head: { kid }, claims: { nbf: now + 120 } }],
    ['for ever', { head: { kid }, claims: { exp: undefined } }],
    ['for another service', { head: { kid }, claims: { aud: 'other' } }],
    ['for no service', { head: { kid }, claims: { aud: undefined } }],
    ['from somebody else', { head: { kid }, claims: { iss: 'other' } }],
    ['unsigned', { head: { kid, alg: 'none' }, signature: () => '' }],
    ['unsigned, in other letters', { head: { kid, alg: 'nOnE' }, signature: () => '' }],
    ['signed with the public key as a secret', { head: { kid, alg: 'HS256' }, signature: hmac(pem) }],
    ['signed by an empty secret', { head: { kid, alg: 'HS256' }, signature: hmac('') }],
    ['of another algorithm', { head: { kid, alg: 'ES384' } }],
    ['without a signature', { head: { kid }, signature: () => '' }],
    ['of an unknown key', { head: { kid: 'k2' } }],
    ['of no key', {}],
    ['with its own key', { head: { jwk: jwk(others) } }],
    ['with a secret as its key', { head: { jwk: { kty: 'oct', k: 'AAAA' }, alg: 'HS256' } }],
    ['with an empty chain', { head: { x5c: [] } }],
    ['with a chain that is none', { head: { x5c: ['AAAA'] } }],
    ['with a critical extension', { head: { kid, crit: ['x'], x: 1 } }],
  ])('is refused: %s', async (what, parts) => {
    const signer = what === 'with its own key' ? others : keys;
    expect(await login(signedToken(signer, parts))).toBe('refused');
  });

  it('is refused where another key signed it', async () => {
    expect(await login(signedToken(others, { head: { kid } }))).toBe('refused');
    const [head, , signature] = signedToken(keys, { head: { kid } }).split('.');
    const [, claims] = signedToken(keys, { head: { kid }, claims: { sub: 'root' } }).split('.');
    expect(await login(`${head}.${claims}.${signature}`)).toBe('refused');
  });

  it.each(['Basic YTpi', 'Bearer', 'Bearer x', 'Bearer a.b.c', `Bearer ${'a'.repeat(70_000)}.b.c`])(
    'is refused where it is none: %.20s',
    async (header) => {
      expect(await new TokenAuthentication(config, files()).login(header)).toBe('refused');
    },
  );

  it('is refused where its algorithm is not among those that are configured', async () => {
    const strict = new TokenAuthentication({ ...config, signingalgorithms: ['RS256'] }, files());
    expect(await login(signedToken(keys, { head: { kid } }), strict)).toBe('refused');
  });

  it('grants nothing by what is malformed, and need not have a name', async () => {
    const access = [
      null,
      'x',
      { type: 'repository', name: 'a', actions: 'pull' },
      { name: 'a', actions: ['pull'] },
    ];
    const claims = { sub: '', access };
    expect(await login(signedToken(keys, { head: { kid }, claims }))).toEqual({
      user: undefined,
      claims: [],
    });
    expect(await login(signedToken(keys, { head: { kid }, claims: { access: {} } }))).toMatchObject({
      claims: [],
    });
  });
});

describe('keys', () => {
  const replace = async (text: string): Promise<void> => {
    await writeFile(`${jwks}.new`, text);
    await rename(`${jwks}.new`, jwks);
  };

  it('are those that the file has now', async () => {
    const authentication = new TokenAuthentication(config, files());
    const [old, next] = [signedToken(keys, { head: { kid } }), signedToken(others, { head: { kid: 'k2' } })];
    expect(await login(old, authentication)).not.toBe('refused');
    expect(await login(next, authentication)).toBe('refused');
    await replace(keySet(others, 'k2'));
    expect(await login(old, authentication)).toBe('refused');
    expect(await login(next, authentication)).not.toBe('refused');
  });

  it.each([' ', '{', '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}', '[]', 'null'])(
    'stay as they were while the file cannot be used, which is told once: %s',
    async (text) => {
      const authentication = new TokenAuthentication(config, files());
      await replace(text);
      for (let times = 0; times < 3; times += 1)
        expect(await login(signedToken(keys, { head: { kid } }), authentication)).not.toBe('refused');
      expect(told).toHaveLength(1);
      expect(() => files()).toThrow(/key|JSON/);
    },
  );
});

it('the challenge says where tokens are to be had, and for what', () => {
  const challenge = (scope?: string, trouble?: 'invalid_token') =>
    new TokenAuthentication(config, files()).challenge(scope, trouble).headers['WWW-Authenticate'];
  expect(challenge()).toBe(`Bearer realm="https://auth.example/token",service="${tokenService}"`);
  expect(challenge('repository:team/app:pull', 'invalid_token')).toBe(
    `Bearer realm="https://auth.example/token",service="${tokenService}",scope="repository:team/app:pull",error="invalid_token"`,
  );
});
