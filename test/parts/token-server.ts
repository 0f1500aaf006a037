import { createHash, generateKeyPairSync, sign, verify } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { runSuccessfully } from './process.js';

export interface TokenUser {
  readonly password: string;
  /** Repositories that this user may pull from and push to. */
  readonly repositories: readonly string[];
}

export interface TokenServerOptions {
  readonly users?: Readonly<Record<string, TokenUser>>;
  /** What may be pulled without a user. */
  readonly anonymous?: readonly string[];
  readonly expiresInSeconds?: number;
}

export interface TokenRequest {
  readonly method: string;
  readonly url: string;
  readonly scopes: readonly string[];
  readonly authorization: string | undefined;
}

export interface Access {
  readonly type: 'repository';
  readonly name: string;
  readonly actions: readonly string[];
}

/** How the next token requests are answered instead of with a token. */
export interface TokenRefusal {
  readonly status: number;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

const service = 'test-registry';
const issuer = 'test-issuer';

/**
 * Issues the bearer tokens of the registry token specification (distribution, docs/spec/auth/token.md), signed with
 * ES256 and named by libtrust's key id, which is what docker-registry 2.8 goes by.
 */
export class TokenServer implements AsyncDisposable {
  readonly requests: TokenRequest[] = [];
  /** Every token that was given out. */
  readonly issued: string[] = [];
  /** While set, no token is issued. */
  refusal: TokenRefusal | undefined;

  readonly #options: TokenServerOptions;
  readonly #keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #server = createServer((request, response) => this.#serve(request, response));
  #generation = 0;

  private constructor(options: TokenServerOptions) {
    this.#options = options;
  }

  static async start(options: TokenServerOptions = {}): Promise<TokenServer> {
    const tokens = new TokenServer(options);
    tokens.#server.listen(0, '127.0.0.1');
    await once(tokens.#server, 'listening');
    return tokens;
  }

  get realm(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/token`;
  }

  /** Every token issued before is refused from now on, by whoever asks {@link challenge}. */
  revokeAll(): void {
    this.#generation += 1;
  }

  /** For docker-registry's `auth.token`; writes the certificate that it trusts into the folder, with openssl. */
  async registryAuth(folder: string) {
    await using keyFolder = await temporaryFolder();
    const key = join(keyFolder.path, 'key.pem');
    await writeFile(key, this.#keys.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const rootcertbundle = join(folder, 'token.pem');
    await runSuccessfully(commandOf('openssl'), [
      'req',
      '-x509',
      '-key',
      key,
      '-out',
      rootcertbundle,
      '-subj',
      '/CN=test-issuer',
      '-days',
      '2',
    ]);
    return { realm: this.realm, service, issuer, rootcertbundle };
  }

  /** A whole `Authorization` header, for a test's own pushes. */
  issue(repository: string, actions: readonly string[] = ['pull', 'push']): string {
    return `Bearer ${this.#token([{ type: 'repository', name: repository, actions }], 'test')}`;
  }

  /** `undefined` where the header allows pulling; else what to answer in `WWW-Authenticate`. */
  challenge(authorization: string | undefined, repository: string | undefined): string | undefined {
    const base = `Bearer realm="${this.realm}",service="${service}"`;
    const challenge = repository === undefined ? base : `${base},scope="repository:${repository}:pull"`;
    if (authorization === undefined) return challenge;
    const access = this.#verified(authorization.replace(/^Bearer /, ''));
    if (access === undefined) return `${challenge},error="invalid_token"`;
    if (repository === undefined) return undefined;
    const allowed = access.some(({ name, actions }) => name === repository && actions.includes('pull'));
    return allowed ? undefined : `${challenge},error="insufficient_scope"`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', this.realm);
    const scopes = url.searchParams.getAll('scope').flatMap((scope) => scope.split(' '));
    const { authorization } = request.headers;
    this.requests.push({ method: request.method ?? '', url: request.url ?? '', scopes, authorization });
    if (this.refusal !== undefined) {
      response.writeHead(this.refusal.status, this.refusal.headers).end(this.refusal.body);
      return;
    }
    const user = this.#userOf(authorization);
    if (user === 'refused') {
      response
        .writeHead(401, { 'content-type': 'application/json' })
        .end('{"errors":[{"code":"UNAUTHORIZED"}]}');
      return;
    }
    const token = this.#token(
      scopes.flatMap((scope) => this.#grant(scope, user.name)),
      user.name ?? '',
    );
    this.issued.push(token);
    const body = {
      token,
      access_token: token,
      expires_in: this.#expiresIn,
      issued_at: new Date().toISOString(),
    };
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  get #expiresIn(): number {
    return this.#options.expiresInSeconds ?? 300;
  }

  /** Without a header it is nobody, who has no name. */
  #userOf(authorization: string | undefined): { readonly name: string | undefined } | 'refused' {
    if (authorization === undefined) return { name: undefined };
    const found = Object.entries(this.#options.users ?? {}).find(
      ([name, { password }]) =>
        authorization === `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
    );
    return found === undefined ? 'refused' : { name: found[0] };
  }

  /** As registries do it: what is not granted is left out, without an error. */
  #grant(scope: string, user: string | undefined): Access[] {
    const match = /^repository:(.+):([a-z,]+)$/.exec(scope);
    const [, name = '', wanted = ''] = match ?? [];
    const own = user === undefined ? [] : (this.#options.users?.[user]?.repositories ?? []);
    const actions = wanted
      .split(',')
      .filter(
        (action) => own.includes(name) || (action === 'pull' && this.#options.anonymous?.includes(name)),
      );
    return actions.length === 0 ? [] : [{ type: 'repository', name, actions }];
  }

  #token(access: readonly Access[], subject: string): string {
    const now = Math.floor(Date.now() / 1000);
    const head = { typ: 'JWT', alg: 'ES256', kid: this.#keyId() };
    const claims = {
      iss: issuer,
      sub: subject,
      aud: service,
      iat: now,
      nbf: now - 10,
      exp: now + this.#expiresIn,
      jti: String(this.#generation),
      access,
    };
    const signed = `${base64url(head)}.${base64url(claims)}`;
    const key = { key: this.#keys.privateKey, dsaEncoding: 'ieee-p1363' } as const;
    return `${signed}.${sign('sha256', Buffer.from(signed), key).toString('base64url')}`;
  }

  #verified(token: string): Access[] | undefined {
    const [head = '', claims = '', signature = ''] = token.split('.');
    const key = { key: this.#keys.publicKey, dsaEncoding: 'ieee-p1363' } as const;
    const genuine = verify(
      'sha256',
      Buffer.from(`${head}.${claims}`),
      key,
      Buffer.from(signature, 'base64url'),
    );
    if (!genuine) return undefined;
    const parsed = JSON.parse(Buffer.from(claims, 'base64url').toString()) as {
      exp: number;
      jti: string;
      access: Access[];
    };
    const current = parsed.jti === String(this.#generation) && parsed.exp * 1000 > Date.now();
    return current ? parsed.access : undefined;
  }

  /** libtrust: the first 240 bits of the public key's SHA-256, base32, in twelve groups of four. */
  #keyId(): string {
    const der = this.#keys.publicKey.export({ type: 'spki', format: 'der' });
    const text = base32(createHash('sha256').update(der).digest().subarray(0, 30));
    return (text.match(/.{4}/g) ?? []).join(':');
  }
}

function base64url(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** RFC 4648 §6, for lengths that need no padding. */
function base32(bytes: Buffer): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return (bits.match(/.{5}/g) ?? []).map((group) => alphabet.charAt(Number.parseInt(group, 2))).join('');
}
