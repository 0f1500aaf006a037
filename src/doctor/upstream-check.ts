import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { connect as connectTls, getCACertificates } from 'node:tls';
import type { UpstreamConfig } from '../config/config.js';
import { readBody } from '../upstream/body.js';
import { parseChallenges, type Challenge } from '../upstream/challenge.js';
import { basicHeader, CredentialsError, type Credentials, type Login } from '../upstream/credentials.js';
import { dockerHubHosts } from '../upstream/directory.js';
import { parseObject } from '../upstream/json.js';
import { ProxyRule, type ProxySettings } from '../upstream/proxy.js';
import { readRateLimit } from '../upstream/rate-limit.js';
import { checkRealm } from '../upstream/realm.js';
import { discard, Transport, type Headers, type Method, type Reply } from '../upstream/transport.js';
import { UpstreamError } from '../upstream/upstream.js';
import { codeOf, silent, type Check, type Tell } from './check.js';
import type { Clocks } from './clocks.js';

const patienceMs = 4_000;
const dayMs = 24 * 60 * 60_000;
const soonDays = 7;
const littleShare = 0.2;
/** The longest answer of a token server, in bytes. */
const longestToken = 64 * 1024;
const headers: Headers = { accept: '*/*', 'accept-encoding': 'identity', 'user-agent': 'cistern' };
/** Docker's own repository for asking what is left of the limit; a HEAD of it counts for nothing. */
const hubPreview = { repository: 'ratelimitpreview/test', tag: 'latest' } as const;

export interface UpstreamCheckOptions {
  readonly config: UpstreamConfig;
  readonly credentials: readonly Credentials[];
  readonly proxy: ProxySettings;
  readonly clocks: Clocks;
}

/** One upstream: the way to it, its certificate, its challenge, our credentials, what is left of its pull limit. */
export function upstreamCheck(options: UpstreamCheckOptions): Check {
  const { host } = options.config;
  return {
    name: `upstream ${host}`,
    run: async (tell, signal) => {
      let visit: Visit;
      try {
        visit = new Visit(options, tell, signal);
      } catch (error) {
        tell.fail(
          error instanceof Error ? error.message : String(error),
          'see HTTP_PROXY, HTTPS_PROXY and ca',
        );
        return;
      }
      try {
        await visit.make();
      } catch (error) {
        signal.throwIfAborted();
        visit.tellTrouble(error);
      } finally {
        await visit.close();
      }
    },
  };
}

class Visit {
  readonly #url: URL;
  readonly #transport: Transport;
  readonly #rule: ProxyRule;

  constructor(
    private readonly options: UpstreamCheckOptions,
    private readonly tell: Tell,
    private readonly signal: AbortSignal,
  ) {
    const { config, proxy } = options;
    this.#url = new URL(config.url);
    this.#rule = new ProxyRule(proxy);
    const timeouts = { connectMs: patienceMs, headersMs: patienceMs, bodyIdleMs: patienceMs };
    this.#transport = new Transport({
      host: config.host,
      url: this.#url,
      listed: [...config.realms, ...config.redirects],
      ca: config.ca,
      proxy,
      timeouts,
      log: silent,
    });
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  async make(): Promise<void> {
    const ping = await this.#ask('GET', this.#at(''), undefined);
    this.options.clocks.noteDate(this.options.config.host, ping.headers['date']);
    if (ping.status === 200 && this.options.credentials.length === 0)
      this.tell.ok('answers, and asks for no login');
    else if (ping.status === 200) {
      this.tell.warn(
        'answers, and does not ask for a login: whether it takes the credentials cannot be seen',
        'pull an image that only they may pull',
      );
    } else if (ping.status === 401) await this.#logIn(ping);
    else {
      this.tell.fail(
        `answers ${ping.status} to /v2/`,
        ping.status >= 500 ? 'ask who runs it' : 'the url has to lead to a registry, without /v2',
      );
    }
    await this.#tellCertificate();
    const limit = readRateLimit(ping.headers);
    if (limit !== undefined) this.#tellBudget(limit.remaining, limit.limit);
  }

  tellTrouble(error: unknown): void {
    if (error instanceof UpstreamError && error.code === 'realm-refused') {
      this.tell.fail(error.reason, 'if that host is right, put it into the realms of this upstream');
      return;
    }
    if (error instanceof UpstreamError && error.code !== 'unreachable') {
      this.tell.fail(error.reason, 'see whether the url is that of a registry');
      return;
    }
    const code = codeOf(error instanceof UpstreamError ? error.cause : error);
    this.tell.fail(`${this.#url.origin} cannot be reached: ${code}`, reachAdvice(code));
  }

  async #logIn(ping: Reply): Promise<void> {
    const challenges = parseChallenges(ping.headers['www-authenticate']);
    const bearer = challenges.find(
      ({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'),
    );
    const basic = challenges.some(({ scheme }) => scheme === 'basic');
    if (bearer === undefined && !basic) {
      this.tell.fail('asks for a login in no way that is known', 'see whether the url is that of a registry');
      return;
    }
    const realm = bearer && this.#realmOf(bearer);
    if (this.options.credentials.length === 0) {
      if (realm === undefined) {
        this.tell.warn('asks for a login, and none is configured', 'set credentials for it');
      } else await this.#askAnonymously(realm);
      return;
    }
    for (const credentials of this.options.credentials) await this.#try(credentials, realm);
  }

  async #askAnonymously(realm: URL): Promise<void> {
    const reply = await this.#ask('GET', realm, undefined);
    if (reply.status >= 500) this.tell.fail(`its token server answers ${reply.status}`, 'ask who runs it');
    else this.tell.ok(`answers; nobody logs in at ${realm.host}`);
    await this.#askHub(realm, undefined);
  }

  async #try(credentials: Credentials, realm: URL | undefined): Promise<void> {
    const login = await this.#loginOf(credentials);
    if (login === undefined) return;
    const header = basicHeader(login.username, login.password);
    const where = realm ?? this.#at('');
    const { status } = await this.#ask('GET', where, header);
    const who = JSON.stringify(login.username);
    if (status === 200) {
      this.tell.ok(`answers, and takes the credentials of ${who}`);
      await this.#askHub(realm, header);
    } else if (status === 401 || status === 403) {
      this.tell.fail(
        `${where.host} refuses the credentials of ${who} (${status})`,
        'see whether the user and the password or token are right, and not expired',
      );
    } else this.tell.fail(`${where.host} answers ${status} to the credentials of ${who}`, 'ask who runs it');
  }

  async #loginOf(credentials: Credentials): Promise<Login | undefined> {
    try {
      const login = await credentials.login();
      if (login === undefined) this.tell.warn('no credentials are found for it', 'see dockerconfigjson');
      return login;
    } catch (error) {
      const reason = error instanceof CredentialsError ? error.message : codeOf(error);
      this.tell.fail(
        `the credentials cannot be had: ${reason}`,
        'see passwordfile, exec or dockerconfigjson',
      );
      return undefined;
    }
  }

  /** Docker Hub says what is left only of a repository. */
  async #askHub(realm: URL | undefined, identity: string | undefined): Promise<void> {
    if (realm === undefined || !dockerHubHosts.includes(this.#url.hostname)) return;
    const scoped = new URL(realm);
    scoped.searchParams.set('scope', `repository:${hubPreview.repository}:pull`);
    const token = await this.#tokenFrom(scoped, identity);
    if (token === undefined) return;
    const manifest = this.#at(`${hubPreview.repository}/manifests/${hubPreview.tag}`);
    const { headers: told } = await this.#ask('HEAD', manifest, `Bearer ${token}`);
    const limit = readRateLimit(told);
    if (limit !== undefined) this.#tellBudget(limit.remaining, limit.limit);
  }

  async #tokenFrom(realm: URL, identity: string | undefined): Promise<string | undefined> {
    const reply = await this.#transport.request(realm, 'GET', withIdentity(identity), this.signal);
    if (reply.status !== 200) {
      discard(reply);
      return undefined;
    }
    const { host } = this.options.config;
    const bytes = await readBody(reply, longestToken, host, this.#transport, this.signal);
    const token = parseObject(bytes)?.['token'];
    return typeof token === 'string' ? token : undefined;
  }

  #tellBudget(remaining: number, limit: number): void {
    const left = `${remaining} of ${limit} pulls are left`;
    if (remaining > limit * littleShare) this.tell.ok(left);
    else
      this.tell.warn(
        left,
        'add credentials with a limit of their own, or a paid plan; cached images are served on',
      );
  }

  #realmOf({ parameters }: Challenge): URL {
    const { config } = this.options;
    const realm = checkRealm(parameters.get('realm') ?? '', {
      host: config.host,
      url: this.#url,
      realms: config.realms,
    });
    const service = parameters.get('service');
    if (service !== undefined) realm.searchParams.set('service', service);
    return realm;
  }

  async #tellCertificate(): Promise<void> {
    const days = await this.#daysOfCertificate();
    if (days === undefined || days > soonDays) return;
    this.tell.warn(`its certificate expires in less than ${Math.ceil(days)} days`, 'ask who runs it');
  }

  /** `undefined` where there is none to be seen, as behind a proxy. */
  async #daysOfCertificate(): Promise<number | undefined> {
    const { config } = this.options;
    if (this.#url.protocol !== 'https:' || this.#rule.proxyFor(this.#url) !== undefined) return undefined;
    const ca = config.ca === undefined ? [] : [await readFile(config.ca, 'utf8')];
    const { port } = this.#url;
    const hostname = this.#url.hostname.replace(/^\[(.*)\]$/, '$1');
    const socket = connectTls({
      host: hostname,
      port: Number(port || 443),
      ...(isIP(hostname) === 0 ? { servername: hostname } : {}),
      ca: [...getCACertificates('default'), ...ca],
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
    socket.setTimeout(patienceMs, () => reject(new Error('silent')));
    try {
      await promise;
      return (Date.parse(socket.getPeerCertificate().valid_to) - Date.now()) / dayMs;
    } finally {
      socket.destroy();
    }
  }

  async #ask(method: Method, url: URL, authorization: string | undefined): Promise<Reply> {
    const reply = await this.#transport.request(url, method, withIdentity(authorization), this.signal);
    discard(reply);
    return reply;
  }

  #at(path: string): URL {
    return new URL(`${this.#url.origin}${this.#url.pathname.replace(/\/$/, '')}/v2/${path}`);
  }
}

function withIdentity(authorization: string | undefined): Headers {
  return authorization === undefined ? headers : { ...headers, authorization };
}

function reachAdvice(code: string): string {
  if (/^(?:ENOTFOUND|EAI_)/.test(code)) return 'nobody knows the name here: see the url, and the DNS';
  if (code === 'CERT_HAS_EXPIRED') return 'its certificate has expired: ask who runs it';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'its certificate is for another name: see the url';
  if (/CERT|ISSUER|SIGNATURE|SIGNED/.test(code)) {
    return 'its certificate is from an authority that is not known here: name that in ca (a PEM file)';
  }
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'EPROTO')
    return 'it may speak plain http: see the url';
  return 'see the url, the firewall, and HTTPS_PROXY';
}
