import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import { LoopbackServer } from '../fakes/loopback-server.js';
import { ecKeys, keySet, type KeyPair, pull, signedToken, type TokenParts } from '../parts/signed-token.js';

const now = (): number => Math.floor(Date.now() / 1000);
const stranger = ecKeys();

interface Forged extends TokenParts {
  /** Instead of the right ones. */
  readonly keys?: KeyPair;
}

/** Tokens that are wrong in one way each, made by whoever knows the right public key. */
const wrongs: Readonly<Record<string, (right: KeyPair) => Forged>> = {
  'that is over': () => ({ claims: { nbf: now() - 7200, exp: now() - 3600 } }),
  'that does not hold yet': () => ({ claims: { nbf: now() + 3600, exp: now() + 7200 } }),
  'for another service': () => ({ claims: { aud: 'another' } }),
  'of another issuer': () => ({ claims: { iss: 'another' } }),
  'that is not signed': () => ({ head: { alg: 'none' }, signature: () => '' }),
  'signed with the public key as a secret': ({ publicKey }) => ({
    head: { alg: 'HS256' },
    signature: (signed) => {
      const secret = publicKey.export({ type: 'spki', format: 'pem' });
      return createHmac('sha256', secret).update(signed).digest('base64url');
    },
  }),
  'signed by another key': () => ({ keys: stranger }),
  'signed by a key that it brings': () => ({
    keys: stranger,
    head: { kid: undefined, jwk: stranger.publicKey.export({ format: 'jwk' }) },
  }),
};

export const wrongTokens: readonly string[] = Object.keys(wrongs);

/** A token service for `ann:right` that gives out what it is told to. */
export class TokenForge implements AsyncDisposable {
  /** What was asked for, in order. */
  readonly scopes: string[] = [];
  /** One of {@link wrongTokens}; `undefined`: a right one for what is asked and {@link granted}. */
  wrong: string | undefined;
  #keys = ecKeys();
  #generation = 1;
  readonly #server = new LoopbackServer(() =>
    createServer((request, response) => {
      if (request.headers.authorization !== `Basic ${Buffer.from('ann:right').toString('base64')}`) {
        response.writeHead(401).end('{"errors":[{"code":"UNAUTHORIZED"}]}');
        return;
      }
      const url = new URL(request.url ?? '', this.realm);
      const scopes = url.searchParams.getAll('scope').flatMap((each) => each.split(' '));
      this.scopes.push(...scopes);
      const names = scopes.map((scope) => scope.split(':')[1] ?? '');
      const token = this.issue(names.filter((name) => this.granted.includes(name)));
      response.end(JSON.stringify({ token, expires_in: 300 }));
    }),
  );

  private constructor(private readonly granted: readonly string[]) {}

  static async start(granted: readonly string[]): Promise<TokenForge> {
    const forge = new TokenForge(granted);
    await forge.#server.up();
    return forge;
  }

  get realm(): string {
    return `http://${this.#server.host}/token`;
  }

  get #kid(): string {
    return `k${this.#generation}`;
  }

  /** The public half of its present key (RFC 7517). */
  get keySet(): string {
    return keySet(this.#keys, this.#kid);
  }

  /** A token for these repositories, wrong where it is told so. */
  issue(names: readonly string[]): string {
    const { keys = this.#keys, ...parts } = wrongs[this.wrong ?? '']?.(this.#keys) ?? {};
    const claims = { access: names.map(pull), ...parts.claims };
    return signedToken(keys, { ...parts, head: { kid: this.#kid, ...parts.head }, claims });
  }

  /** Another key from now on. */
  rotate(): void {
    this.#keys = ecKeys();
    this.#generation += 1;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server[Symbol.asyncDispose]();
  }
}
