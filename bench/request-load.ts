import { connect, type Socket } from 'node:net';

const end = Buffer.from('\r\n\r\n');

export interface Asked {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
}

export interface RequestLoad {
  readonly requests: number;
  readonly requestsPerSecond: number;
  /** In milliseconds. */
  readonly p99: number;
}

export interface RequestLoadOptions {
  readonly connections: number;
  /** What is asked for next, on any of the connections; `undefined`: nothing more. */
  readonly next: () => Asked | undefined;
}

/**
 * What wrk does, for requests of which each is another one, HEAD among them: on every connection the next when the last
 * is answered. Throws unless all are answered with 200.
 */
export async function loadRequests(
  url: string,
  { connections, next }: RequestLoadOptions,
): Promise<RequestLoad> {
  const took: number[] = [];
  const began = performance.now();
  await Promise.all(Array.from({ length: connections }, () => new Client(new URL(url), next, took).finished));
  const seconds = (performance.now() - began) / 1000;
  took.sort((a, b) => a - b);
  const p99 = took[Math.floor(took.length * 0.99)] ?? Number.NaN;
  return { requests: took.length, requestsPerSecond: took.length / seconds, p99 };
}

/** One connection, without what node:http does for each request: it would take more time than the server. */
class Client {
  readonly finished: Promise<void>;
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #asked: Asked | undefined;
  #sentAt = 0;

  constructor(
    private readonly url: URL,
    private readonly next: () => Asked | undefined,
    private readonly took: number[],
  ) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#socket = connect(Number(url.port), url.hostname);
    this.#socket.setNoDelay(true);
    this.#socket.once('connect', () => this.#ask());
    this.#socket.on('data', (chunk) => {
      try {
        this.#take(chunk);
      } catch (error) {
        reject(error as Error);
        this.#socket.destroy();
      }
    });
    this.#socket.once('error', reject);
    this.#socket.once('close', () => {
      if (this.#asked === undefined) resolve();
      else reject(new Error(`${this.#asked.path}: the connection was closed`));
    });
  }

  #ask(): void {
    const asked = this.next();
    this.#asked = asked;
    if (asked === undefined) {
      this.#socket.end();
      return;
    }
    this.#sentAt = performance.now();
    const { method, path } = asked;
    this.#socket.write(
      `${method} ${path} HTTP/1.1\r\nHost: ${this.url.host}\r\nAccept: application/vnd.oci.image.manifest.v1+json\r\n\r\n`,
    );
  }

  #take(chunk: Buffer): void {
    this.#received = this.#received.byteLength === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const headEnd = this.#received.indexOf(end);
    if (headEnd < 0 || this.#asked === undefined) return;
    const head = this.#received.toString('latin1', 0, headEnd);
    if (!head.startsWith('HTTP/1.1 200 ')) {
      throw new Error(`${this.#asked.method} ${this.#asked.path}: ${head.slice(0, head.indexOf('\r\n'))}`);
    }
    const body = this.#asked.method === 'HEAD' ? 0 : Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
    if (this.#received.byteLength < headEnd + end.byteLength + body) return;
    this.#received = Buffer.alloc(0);
    this.took.push(performance.now() - this.#sentAt);
    this.#ask();
  }
}
