import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { Throttle } from './throttle.js';

export interface ClientOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: as fast as it can. */
  readonly bytesPerSecond?: number;
  /** The address that it connects from. */
  readonly localAddress?: string;
  /** Stops reading after so many bytes, and keeps the connection, until `resume`. */
  readonly pauseAfter?: number;
}

/**
 * `complete`: all that Content-Length or chunked framing promised. `cut`: the server closed before. `reset`: it
 * reset the connection. `left`: this client went away.
 */
export type End = 'complete' | 'cut' | 'reset' | 'left';

export interface Received {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: number;
  readonly sha256: string;
  readonly end: End;
}

/**
 * A client on a connection of its own that reads a body at its own pace. What it does not read fills the kernel's
 * buffers first (some megabytes on loopback), so bodies must be larger than those for a pause to be felt.
 */
export class SlowClient implements Disposable {
  /** Status and headers, as soon as they are there. Rejects when there is no answer. */
  readonly answered: Promise<{ readonly status: number; readonly headers: IncomingHttpHeaders }>;
  /** The end of it. Rejects only when there was no answer. */
  readonly finished: Promise<Received>;

  readonly #leave = new AbortController();
  readonly #hash: Hash = createHash('sha256');
  readonly #throttle: Throttle;
  #pauseAt: number;
  #bytes = 0;
  #progress = Promise.withResolvers<void>();
  #resumed = Promise.withResolvers<void>();
  #over = false;
  #socketSaid: 'end' | 'reset' | undefined;

  constructor(url: string, options: ClientOptions = {}) {
    this.#throttle = new Throttle(options.bytesPerSecond);
    this.#pauseAt = options.pauseAfter ?? Infinity;
    const response = this.#ask(url, options);
    this.answered = response.then(({ statusCode = 0, headers }) => ({ status: statusCode, headers }));
    this.finished = response.then((incoming) => this.#readAll(incoming));
    // Who looks at only one of them must not be told twice.
    this.answered.catch(() => {});
    this.finished.catch(() => {});
  }

  /** So far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Until at least so many bytes have been read. Rejects when the body ends before. */
  async received(bytes: number): Promise<void> {
    await this.answered;
    while (this.#bytes < bytes) {
      if (this.#over) throw new Error(`the body ended after ${this.#bytes} bytes, waiting for ${bytes}`);
      await this.#progress.promise;
    }
  }

  /** Reads on; to the end, or to the given byte. */
  resume(pauseAfter = Infinity): void {
    this.#pauseAt = pauseAfter;
    this.#resumed.resolve();
    this.#resumed = Promise.withResolvers();
  }

  /** Goes away in the middle. */
  leave(): void {
    this.#leave.abort();
    this.#resumed.resolve();
  }

  [Symbol.dispose](): void {
    this.leave();
  }

  async #ask(url: string, options: ClientOptions): Promise<IncomingMessage> {
    const { method = 'GET', headers = {}, localAddress } = options;
    const from = localAddress === undefined ? {} : { localAddress };
    const asked = request(url, { method, headers, agent: false, signal: this.#leave.signal, ...from });
    asked.on('socket', (socket) => {
      socket.once('end', () => (this.#socketSaid ??= 'end'));
      socket.once('error', () => (this.#socketSaid ??= 'reset'));
    });
    asked.end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    // From here on the body's end tells what went wrong.
    asked.on('error', () => {});
    return response;
  }

  async #readAll(response: IncomingMessage): Promise<Received> {
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) await this.#take(chunk);
    } catch (error) {
      if (response.complete && !this.#leave.signal.aborted) throw error;
    }
    this.#over = true;
    this.#tellProgress();
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      bytes: this.#bytes,
      sha256: this.#hash.digest('hex'),
      end: this.#endOf(response),
    };
  }

  async #take(chunk: Buffer): Promise<void> {
    // In small pieces, so that rate and pause hold to the byte.
    for (let at = 0; at < chunk.byteLength;) {
      while (this.#bytes >= this.#pauseAt && !this.#leave.signal.aborted) await this.#resumed.promise;
      this.#leave.signal.throwIfAborted();
      const piece = chunk.subarray(at, at + Math.min(16_384, this.#pauseAt - this.#bytes));
      await this.#throttle.pass(piece.byteLength, this.#leave.signal);
      this.#hash.update(piece);
      this.#bytes += piece.byteLength;
      at += piece.byteLength;
      this.#tellProgress();
    }
  }

  #tellProgress(): void {
    this.#progress.resolve();
    this.#progress = Promise.withResolvers();
  }

  #endOf(response: IncomingMessage): End {
    if (response.complete) return 'complete';
    if (this.#leave.signal.aborted) return 'left';
    return this.#socketSaid === 'end' ? 'cut' : 'reset';
  }
}

/** The whole of it, at full speed unless told otherwise. */
export function receive(url: string, options: ClientOptions = {}): Promise<Received> {
  return new SlowClient(url, options).finished;
}
