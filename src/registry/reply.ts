import type { ServerResponse } from 'node:http';
import type { Resolved } from '../proxy/proxy.js';
import type { Exchange } from './exchange.js';
import type { RegistryError } from './errors.js';

export type Headers = Record<string, string | number>;

export function sendError(exchange: Exchange, error: RegistryError): void {
  sendText(exchange, error.status, error.body, error.headers);
}

export function sendText(
  exchange: Exchange,
  status: number,
  text: string,
  headers: Headers = {},
  contentType = 'application/json; charset=utf-8',
): void {
  sendBytes(exchange, status, Buffer.from(text), { 'Content-Type': contentType, ...headers });
}

/** A whole answer; HEAD gets its headers alone. */
export function sendBytes(exchange: Exchange, status: number, bytes: Buffer, headers: Headers): void {
  const { response } = exchange;
  response.writeHead(status, { ...headers, 'Content-Length': bytes.byteLength });
  if (exchange.isHead) response.end();
  else {
    exchange.sent = bytes.byteLength;
    response.end(bytes);
  }
}

export function sendHead(exchange: Exchange, status: number, headers: Headers): void {
  exchange.response.writeHead(status, headers);
  exchange.response.end();
}

/**
 * Sends a body at the client's pace. `length` is what was announced; a client that takes
 * nothing for `stalledMs` is cut. Once the first byte is out an error can only be
 * told by cutting the connection: the client then sees a short body, never a wrong one that looks whole.
 */
export async function sendStream(
  exchange: Exchange,
  body: AsyncIterable<Uint8Array>,
  length: number | undefined,
  stalledMs: number,
): Promise<void> {
  const { response, signal } = exchange;
  try {
    using client = new Recipient(response, stalledMs, signal);
    for await (const chunk of body) {
      exchange.sent += chunk.byteLength;
      await client.take(chunk, exchange.sent === length);
    }
    if (length !== undefined && exchange.sent !== length) throw new ShortBody(length, exchange.sent);
    if (!response.writableEnded) response.end();
  } catch (error) {
    exchange.failure = error; // before the access line, which is written when the response closes
    response.destroy();
    throw error;
  }
}

export class ShortBody extends Error {
  override readonly name = 'ShortBody';
  constructor(announced: number, sent: number) {
    super(`announced ${announced} bytes, but there were only ${sent}`);
  }
}

export class ClientStalled extends Error {
  override readonly name = 'ClientStalled';
  constructor(stalledMs: number) {
    super(`the client took nothing for ${stalledMs / 1000} s`);
  }
}

/** Who an answer's body goes to: one timer and one listener, however many chunks there are. */
class Recipient implements Disposable {
  readonly #stalled: NodeJS.Timeout;
  #taken: PromiseWithResolvers<void> | undefined;

  constructor(
    private readonly response: ServerResponse,
    stalledMs: number,
    private readonly signal: AbortSignal,
  ) {
    this.#stalled = setTimeout(() => this.#taken?.reject(new ClientStalled(stalledMs)), stalledMs);
    signal.addEventListener('abort', this.#leave);
  }

  /** Settles when the system has taken the chunk: its memory may then be used again. */
  async take(chunk: Uint8Array, isLast: boolean): Promise<void> {
    this.signal.throwIfAborted();
    this.#stalled.refresh();
    this.#taken = Promise.withResolvers<void>();
    if (isLast) this.response.end(chunk, this.#settle);
    else this.response.write(chunk, this.#settle);
    await this.#taken.promise;
    this.#taken = undefined;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#stalled);
    this.signal.removeEventListener('abort', this.#leave);
  }

  readonly #settle = (error?: Error | null): void => {
    if (error) this.#taken?.reject(error);
    else this.#taken?.resolve();
  };

  readonly #leave = (): void => this.#taken?.reject(this.signal.reason);
}

/** `Cache-Status` (RFC 9211), `Age` and `Warning`: what happened, for whoever looks at an answer. */
export function cacheHeaders({
  outcome,
  age,
  warning,
}: Pick<Resolved, 'outcome' | 'age' | 'warning'>): Headers {
  const headers: Headers = { 'Cache-Status': cacheStatus[outcome] };
  if (age !== undefined && outcome !== 'miss') headers['Age'] = age;
  if (warning !== undefined) headers['Warning'] = `299 - "${warning.replaceAll(/["\\]/g, "'")}"`;
  return headers;
}

const cacheStatus = {
  hit: 'cistern; hit',
  revalidated: 'cistern; hit; detail=revalidated',
  stale: 'cistern; hit; detail=stale',
  miss: 'cistern; fwd=miss',
} as const;
