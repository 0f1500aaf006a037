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
  const { response } = exchange;
  try {
    using client = new Recipient(exchange, stalledMs);
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
    private readonly exchange: Exchange,
    stalledMs: number,
  ) {
    this.#stalled = setTimeout(() => this.#leave(new ClientStalled(stalledMs)), stalledMs);
    exchange.signal.addEventListener('abort', this.#aborted);
  }

  /** Settles when the system has taken the chunk, or never will: its memory may then be used again. */
  async take(chunk: Uint8Array, isLast: boolean): Promise<void> {
    const { response, signal } = this.exchange;
    signal.throwIfAborted();
    this.#stalled.refresh();
    this.#taken = Promise.withResolvers<void>();
    if (isLast) response.end(chunk, this.#settle);
    else response.write(chunk, this.#settle);
    await this.#taken.promise;
    this.#taken = undefined;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#stalled);
    this.exchange.signal.removeEventListener('abort', this.#aborted);
  }

  readonly #settle = (error?: Error | null): void => {
    if (error) this.#taken?.reject(error);
    else this.#taken?.resolve();
  };

  readonly #aborted = (): void => this.#leave(this.exchange.signal.reason);

  /** In the middle of a chunk. The connection is cut before the chunk's memory can become another's. */
  #leave(reason: unknown): void {
    if (this.#taken === undefined) return;
    this.exchange.failure = reason; // before the access line, which is written when the response closes
    this.exchange.response.destroy();
    this.#taken.reject(reason);
  }
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
