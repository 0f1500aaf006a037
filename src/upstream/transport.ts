import type { IncomingHttpHeaders } from 'node:http';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { Agent, errors, Pool, ProxyAgent, type Dispatcher } from 'undici';
import { WatchedFile, type FileLog } from '../config/watched-file.js';
import { ProxyRule, type ProxySettings } from './proxy.js';
import { Reach } from './reach.js';
import { UpstreamError, type UpstreamCode } from './upstream.js';

export interface Timeouts {
  /** Until a connection stands, TLS included. */
  readonly connectMs: number;
  /** From sending a request to the headers of its answer. */
  readonly headersMs: number;
  /** Between two pieces of a body while the reader wants more. */
  readonly bodyIdleMs: number;
}

export interface TransportOptions {
  readonly host: string;
  /** The upstream's own. */
  readonly url: URL;
  /** Hosts that it may lead to wherever they are. */
  readonly listed: readonly string[];
  /** A PEM file of authorities that are trusted beside the system's. */
  readonly ca?: string | undefined;
  readonly log: FileLog;
  readonly proxy?: ProxySettings | undefined;
  readonly timeouts: Timeouts;
}

export type Method = 'GET' | 'HEAD';
export type Headers = Readonly<Record<string, string>>;

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** To be read, discarded or destroyed. */
  readonly body: Dispatcher.ResponseData['body'];
  /** Whether the answer comes from where a redirect led. */
  readonly redirected: boolean;
}

const mostRedirects = 5;
const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
/** Limits for reading an unwanted body in order to keep its connection. Beyond them, the connection is closed. */
const discardLimit = 16 * 1024;
const discardMs = 2_000;

/**
 * Bytes that wait for a slow reader before a stream reads no more. What waits is copied into one piece when it is read:
 * of a socket that is one read, and of a body nothing.
 */
const waiting = { socket: 16 * 1024, body: 0 };

/**
 * The connections of one upstream: to its own origin, its token server, and the hosts that its redirects lead to.
 * HTTP/1.1, kept alive. Throws UpstreamError, or the signal's reason.
 */
export class Transport {
  readonly #host: string;
  readonly #timeouts: Timeouts;
  readonly #rule: ProxyRule;
  readonly #reach: Reach;
  readonly #authorities: WatchedFile<SecureContext> | undefined;
  #trusted: SecureContext | undefined;
  #direct: Dispatcher;
  readonly #proxies = new Map<string, Dispatcher>();

  constructor(options: TransportOptions) {
    this.#host = options.host;
    this.#timeouts = options.timeouts;
    this.#rule = new ProxyRule(options.proxy ?? {});
    this.#reach = new Reach(options);
    if (options.ca !== undefined) this.#authorities = new WatchedFile(options.ca, trusting, options.log);
    this.#trusted = this.#authorities?.readSync();
    this.#direct = this.#newAgent();
  }

  /**
   * One request; a redirect is an answer like another. A connection that is lost before the answer is replaced once:
   * the other side may have closed a kept one just then (RFC 9112 §9.3.1).
   */
  request(url: URL, method: Method, headers: Headers, signal: AbortSignal): Promise<Reply> {
    return this.#request(url, method, headers, signal, false);
  }

  async #request(
    url: URL,
    method: Method,
    headers: Headers,
    signal: AbortSignal,
    redirected: boolean,
  ): Promise<Reply> {
    const options = {
      origin: url.origin,
      path: url.pathname + url.search,
      method,
      headers,
      signal,
      headersTimeout: this.#timeouts.headersMs,
      bodyTimeout: this.#timeouts.bodyIdleMs,
      highWaterMark: waiting.body,
    };
    try {
      if (this.#authorities !== undefined) await this.#renew(this.#authorities);
      const dispatcher = this.#dispatcherFor(url);
      const reply = await dispatcher
        .request(options)
        .catch((error: unknown) =>
          isLostConnection(error) && !signal.aborted ? dispatcher.request(options) : Promise.reject(error),
        );
      // The body may fail before anybody reads it; whoever reads it then sees that.
      reply.body.on('error', () => {});
      return { status: reply.statusCode, headers: reply.headers, body: reply.body, redirected };
    } catch (error) {
      throw this.failure(error, signal, false, redirected);
    }
  }

  /**
   * A request and its redirects, at most five. What identifies us (`authorization`) goes to `url` alone: after a
   * redirect it is sent to nobody, not even to the same origin.
   */
  async follow(
    url: URL,
    method: Method,
    headers: Headers,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<Reply> {
    let reply = await this.request(
      url,
      method,
      authorization === undefined ? headers : { ...headers, authorization },
      signal,
    );
    for (let from = url, hops = 0; redirects.has(reply.status); hops += 1) {
      discard(reply);
      if (hops === mostRedirects) throw this.#invalid(`redirected more than ${mostRedirects} times`);
      from = this.#target(from, reply.headers.location);
      reply = await this.#request(from, method, headers, signal, true);
    }
    return reply;
  }

  /** What a failed request or body means to the caller. The cause is left out where it holds received bytes. */
  failure(error: unknown, signal: AbortSignal, begun = false, redirected = false): unknown {
    if (signal.aborted) return signal.reason;
    if (error instanceof UpstreamError) return error;
    const code = codeOf(error);
    const facts = { redirected, ...(error instanceof errors.HTTPParserError ? {} : { cause: error }) };
    const fail = (meaning: UpstreamCode, reason: string): UpstreamError =>
      new UpstreamError(meaning, this.#host, reason, facts);
    if (code === 'UND_ERR_BODY_TIMEOUT') return fail('timeout', 'sent nothing for too long inside a body');
    if (begun) return fail('broken-body', `the body broke (${code})`);
    if (code === 'UND_ERR_HEADERS_TIMEOUT') return fail('timeout', 'gave no answer in time');
    if (notHttp.has(code))
      return fail('invalid', `gave an answer that is not HTTP as it should be (${code})`);
    return fail('unreachable', `no connection (${code})`);
  }

  async close(): Promise<void> {
    await Promise.all([this.#direct, ...this.#proxies.values()].map((dispatcher) => dispatcher.destroy()));
  }

  #target(from: URL, location: string | undefined): URL {
    const target = location === undefined ? null : URL.parse(location, from.href);
    if (target === null || (target.protocol !== 'https:' && target.protocol !== 'http:')) {
      throw this.#invalid('redirected to what is not a URL of http or https');
    }
    if (from.protocol === 'https:' && target.protocol === 'http:') {
      throw this.#invalid(`redirected from https to http, to ${target.host}`);
    }
    return target;
  }

  #invalid(reason: string): UpstreamError {
    return new UpstreamError('invalid', this.#host, reason);
  }

  #newAgent(): Agent {
    return new Agent({
      ...this.#poolOptions(),
      connect: this.#reach.connector(this.#connectOptions()),
    });
  }

  /** With other authorities other connections; those that stand end with what runs over them. */
  async #renew(authorities: WatchedFile<SecureContext>): Promise<void> {
    const trusted = await authorities.read();
    if (trusted === this.#trusted) return;
    this.#trusted = trusted;
    const before = [this.#direct, ...this.#proxies.values()];
    this.#direct = this.#newAgent();
    this.#proxies.clear();
    for (const dispatcher of before) dispatcher.close().catch(() => undefined); // closed already
  }

  #dispatcherFor(url: URL): Dispatcher {
    const proxy = this.#rule.proxyFor(url);
    if (proxy === undefined) return this.#direct;
    this.#reach.checkProxied(url);
    let dispatcher = this.#proxies.get(proxy.href);
    if (dispatcher === undefined) {
      dispatcher = new ProxyAgent({
        ...this.#poolOptions(),
        uri: proxy.href,
        requestTls: this.#connectOptions(),
        proxyTls: this.#connectOptions(),
        // The answer to CONNECT is part of standing up the connection.
        clientFactory: (origin, options) =>
          new Pool(origin, { ...options, headersTimeout: this.#timeouts.connectMs }),
      });
      this.#proxies.set(proxy.href, dispatcher);
    }
    return dispatcher;
  }

  /** As many connections as there are requests: a limit would let a small request wait behind large bodies. */
  #poolOptions(): Agent.Options {
    return {
      allowH2: false,
      pipelining: 1,
      keepAliveTimeout: 20_000,
      connectTimeout: this.#timeouts.connectMs,
    };
  }

  #connectOptions(): {
    timeout: number;
    allowH2: boolean;
    highWaterMark: number;
    secureContext?: SecureContext;
  } {
    const tls = this.#trusted === undefined ? {} : { secureContext: this.#trusted };
    return { timeout: this.#timeouts.connectMs, allowH2: false, highWaterMark: waiting.socket, ...tls };
  }
}

/**
 * Reads the rest of an unwanted body, so that the connection can be used again. Closes the connection if the body is
 * long or does not end soon.
 */
export function discard(reply: Reply): void {
  const signal = AbortSignal.timeout(discardMs);
  reply.body.dump({ limit: discardLimit, signal }).catch(() => undefined); // it was cut
}

/** A file of authorities has none. */
class NoAuthorities extends Error {
  override readonly name = 'NoAuthorities';
  readonly code = 'no-authorities';
}

/** One context for all connections: making one parses all authorities. */
function trusting(text: string): SecureContext {
  if (!/-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----/.test(text))
    throw new NoAuthorities('no certificate in PEM');
  return createSecureContext({ ca: [...getCACertificates('default'), text] });
}

const notHttp: ReadonlySet<string> = new Set(['parser', 'UND_ERR_HEADERS_OVERFLOW', 'UND_ERR_INVALID_ARG']);

function codeOf(error: unknown): string {
  if (error instanceof errors.HTTPParserError) return 'parser';
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : 'unknown';
}

const lostConnection: ReadonlySet<string> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

function isLostConnection(error: unknown): boolean {
  return lostConnection.has(codeOf(error));
}
