import { connect } from 'node:net';
import { pipeline } from 'node:stream';
import { createServer } from 'node:tls';
import type { PemPair } from '../parts/certificates.js';
import { LoopbackServer } from './loopback-server.js';

export interface TlsFrontOptions extends PemPair {
  /** Any URL of the server; only host and port are used. */
  readonly target: string;
}

/** TLS in front of a real server that speaks none. */
export class TlsFront implements AsyncDisposable {
  readonly #server: LoopbackServer;

  private constructor({ target, cert, key }: TlsFrontOptions) {
    const { hostname, port } = new URL(target);
    this.#server = new LoopbackServer(() =>
      createServer({ cert, key }, (client) => {
        const server = connect(Number(port), hostname);
        // Either side may leave in the middle; the other one is told by its connection.
        pipeline(client, server, () => undefined);
        pipeline(server, client, () => undefined);
      }),
    );
  }

  static async start(options: TlsFrontOptions): Promise<TlsFront> {
    const front = new TlsFront(options);
    await front.#server.up();
    return front;
  }

  get url(): string {
    return `https://${this.#server.host}`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server.down();
  }
}
