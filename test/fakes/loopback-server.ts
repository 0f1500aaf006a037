import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';

/** A server on a loopback port of its own that goes down when it is told to, and comes up again on the same port. */
export class LoopbackServer implements AsyncDisposable {
  readonly #open = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;

  constructor(private readonly create: () => Server) {}

  /** `127.0.0.1:port`; it is known once the server has been up. */
  get host(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Listens, on the same port as before. */
  async up(): Promise<void> {
    const server = this.create();
    server.on('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Resets all connections, and refuses new ones until `up`. */
  async down(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    for (const socket of this.#open) socket.resetAndDestroy();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }
}
