import { createServer } from 'node:http';
import { connect } from 'node:net';
import { LoopbackServer } from './loopback-server.js';

/** An HTTP proxy that leads every CONNECT to one port of loopback, whatever name is asked for. */
export class ConnectProxy implements AsyncDisposable {
  readonly #server: LoopbackServer;

  private constructor(port: number) {
    this.#server = new LoopbackServer(() =>
      createServer().on('connect', (_, client) => {
        const onward = connect(port, '127.0.0.1', () => {
          client.write('HTTP/1.1 200 OK\r\n\r\n');
          onward.pipe(client).pipe(onward);
        });
        client.on('error', () => onward.destroy());
        onward.on('error', () => client.destroy());
      }),
    );
  }

  static async start(port: number): Promise<ConnectProxy> {
    const proxy = new ConnectProxy(port);
    await proxy.#server.up();
    return proxy;
  }

  get url(): string {
    return `http://${this.#server.host}`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#server[Symbol.asyncDispose]();
  }
}
