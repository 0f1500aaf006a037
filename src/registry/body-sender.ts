import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { ClientGone, type Exchange } from './exchange.js';

/** Sends bodies at the pace of their clients. */
export class BodySender {
  /** Answers that end with their connection: HTTP/1.0 without a length (RFC 9112 §6.3). */
  readonly #unframed = new Set<ServerResponse>();

  constructor(
    /** A client that takes nothing for so many milliseconds is cut, within twice that time. */
    private readonly stalledMs: number,
    /** So many milliseconds more without a byte of the body end the answer as well. */
    private readonly sourceMs = 30_000,
  ) {}

  /**
   * Sends the body of an answer whose head is sent. `length` is the length in the head, in bytes. After the first byte,
   * only a cut connection can report an error: the client then sees a short body, never a wrong one that looks
   * complete. Throws the body's error, WrongLength, ClientStalled, ClientGone.
   */
  async send(exchange: Exchange, body: AsyncIterable<Uint8Array>, length: number | undefined): Promise<void> {
    const { response } = exchange;
    if (length === undefined && !response.chunkedEncoding) this.#unframed.add(response);
    try {
      using client = new Recipient(exchange, this.stalledMs, this.sourceMs);
      for await (const chunk of body) {
        if (length !== undefined && exchange.sent + chunk.byteLength > length)
          throw new WrongLength(length, exchange.sent + chunk.byteLength);
        exchange.sent += chunk.byteLength;
        await client.take(chunk, exchange.sent === length);
      }
      if (length !== undefined && exchange.sent !== length) throw new WrongLength(length, exchange.sent);
      if (!response.writableEnded) response.end();
    } catch (error) {
      exchange.failure ??= error; // before the access line, which is written when the response closes
      cut(response);
      throw error;
    } finally {
      this.#unframed.delete(response);
    }
  }

  /** Cuts all answers that would look complete if their connection were closed in the normal way. */
  cutUnframed(): void {
    for (const response of this.#unframed) cut(response);
  }
}

/**
 * Ends an answer in the middle. If the body ends with the connection, a normal close looks like the end of a complete
 * body, so this resets the connection. It does so under TLS too, because clients take the end of the connection for the
 * end of the body. A Unix socket cannot be reset.
 */
function cut(response: ServerResponse): void {
  const isFramed = response.chunkedEncoding || response.hasHeader('content-length');
  const connection = response.socket === null ? undefined : connectionOf(response.socket);
  if (!isFramed && connection?.remoteAddress !== undefined) connection.resetAndDestroy();
  response.destroy();
}

/** The TCP connection below a TLS socket. Node has no public property for it. */
function connectionOf(socket: Socket & { readonly _parent?: Socket | null }): Socket {
  return socket._parent ?? socket;
}

export class WrongLength extends Error {
  override readonly name = 'WrongLength';
  constructor(announced: number, found: number) {
    super(`announced ${announced} bytes, but the body has ${found}${found > announced ? ' or more' : ''}`);
  }
}

export class ClientStalled extends Error {
  override readonly name = 'ClientStalled';
  constructor(stalledMs: number) {
    super(`the client took nothing for ${stalledMs / 1000} s`);
  }
}

/** The body gave nothing for so long that nobody waits for the rest. */
export class BodyStalled extends Error {
  override readonly name = 'BodyStalled';
  constructor(stalledMs: number) {
    super(`the body gave nothing for ${stalledMs / 1000} s`);
  }
}

/**
 * The client that an answer's body is for. The connection's own time-out looks at what the system has sent of a chunk,
 * so that a client which takes a chunk slowly is not taken for one that takes nothing.
 */
class Recipient implements Disposable {
  #taken: PromiseWithResolvers<void> | undefined;
  /** The connection has been silent for a time-out because the body gave nothing. */
  #isSourceLate = false;

  constructor(
    private readonly exchange: Exchange,
    private readonly stalledMs: number,
    private readonly sourceMs: number,
  ) {
    exchange.response.on('timeout', this.#silent);
    exchange.response.socket?.setTimeout(stalledMs);
    exchange.signal.addEventListener('abort', this.#aborted);
  }

  /** Settles when the system has taken the chunk, or cannot take it any more: its memory may then be reused. */
  async take(chunk: Uint8Array, isLast: boolean): Promise<void> {
    const { response, signal } = this.exchange;
    signal.throwIfAborted();
    if (this.#isSourceLate) response.socket?.setTimeout(this.stalledMs);
    this.#isSourceLate = false;
    this.#taken = Promise.withResolvers<void>();
    if (isLast) response.end(chunk, this.#settle);
    else response.write(chunk, this.#settle);
    await this.#taken.promise;
    this.#taken = undefined;
  }

  [Symbol.dispose](): void {
    this.exchange.response.off('timeout', this.#silent);
    this.exchange.signal.removeEventListener('abort', this.#aborted);
  }

  readonly #settle = (error?: Error | null): void => {
    if (error) this.#taken?.reject(new ClientGone());
    else this.#taken?.resolve();
  };

  readonly #aborted = (): void => {
    if (this.#taken !== undefined) this.#leave(this.exchange.signal.reason);
  };

  readonly #silent = (): void => {
    if (this.#taken !== undefined) this.#leave(new ClientStalled(this.stalledMs));
    else if (this.#isSourceLate) this.#leave(new BodyStalled(this.stalledMs + this.sourceMs));
    else {
      this.#isSourceLate = true;
      this.exchange.response.socket?.setTimeout(this.sourceMs);
    }
  };

  /** The connection is cut before the memory of a chunk can become another's. */
  #leave(reason: unknown): void {
    this.exchange.failure ??= reason; // before the access line, which is written when the response closes
    cut(this.exchange.response);
    this.#taken?.reject(reason);
  }
}
