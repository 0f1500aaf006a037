import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { LoopbackServer } from './loopback-server.js';
import { Throttle } from './throttle.js';

/** What goes wrong with a connection. Positions count bytes from server to client, headers included. */
export interface LinkFault {
  /** Which connections, from 1 on; default: every one. */
  readonly connection?: number;
  /** Closed as soon as it is accepted. */
  readonly refuse?: true;
  /** Before the first byte in either direction. */
  readonly delayMs?: number;
  readonly cutAt?: number;
  /** How it is cut: a clean close (default) or a reset. */
  readonly cut?: 'close' | 'reset';
  /** Nothing more goes to the client from here on, until `heal`. */
  readonly stallAt?: number;
  /** This byte's bits are turned over. */
  readonly corruptAt?: number;
}

export interface LinkProxyOptions {
  /** Any URL of the server; only host and port are used. */
  readonly target: string;
  /** Of the link towards clients, shared by all connections. */
  readonly bytesPerSecond?: number;
  /** Of each connection by itself. */
  readonly connectionBytesPerSecond?: number;
}

/** A link in front of a real server, for faults that the server itself would never show. */
export class LinkProxy implements AsyncDisposable {
  /** Connections accepted so far. */
  connections = 0;
  /** Bytes passed on from server to client. */
  bytesDown = 0;

  readonly #target: { readonly host: string; readonly port: number };
  readonly #throttle: Throttle;
  readonly #connectionRate: number | undefined;
  readonly #server = new LoopbackServer(() => this.#newServer());
  #faults: LinkFault[] = [];
  readonly #open = new Set<Socket>();
  readonly #silent = new WeakSet<Socket>();
  #healed = Promise.withResolvers<void>();
  #changed = Promise.withResolvers<void>();

  private constructor(options: LinkProxyOptions) {
    const { hostname, port } = new URL(options.target);
    this.#target = { host: hostname, port: Number(port) };
    this.#throttle = new Throttle(options.bytesPerSecond);
    this.#connectionRate = options.connectionBytesPerSecond;
  }

  static async start(options: LinkProxyOptions): Promise<LinkProxy> {
    const proxy = new LinkProxy(options);
    await proxy.up();
    return proxy;
  }

  get url(): string {
    return `http://${this.#server.host}`;
  }

  /** For connections accepted from now on. */
  inject(fault: LinkFault): void {
    this.#faults.push(fault);
  }

  /** Nothing more goes to the clients of the connections that are open now, until `heal`. */
  silence(): void {
    for (const client of this.#open) this.#silent.add(client);
  }

  /** Takes all faults away; what stalls goes on. */
  heal(): void {
    this.#faults = [];
    this.#healed.resolve();
    this.#healed = Promise.withResolvers();
  }

  /** Until the check holds; it is made again whenever bytes have been passed on. */
  async until(check: () => boolean): Promise<void> {
    while (!check()) await this.#changed.promise;
  }

  /** Resets all connections, and refuses new ones until `up`. */
  async down(): Promise<void> {
    const closed = this.#server.down();
    this.heal();
    await closed;
  }

  /** Listens, on the same port as before. */
  up(): Promise<void> {
    return this.#server.up();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.down();
  }

  #newServer(): Server {
    return createServer({ allowHalfOpen: true }, (client) => void this.#serve(client));
  }

  async #serve(client: Socket): Promise<void> {
    const healed = this.#healed.promise;
    this.connections += 1;
    const number = this.connections;
    const fault: LinkFault = Object.assign(
      {},
      ...this.#faults.filter(({ connection }) => connection === undefined || connection === number),
    );
    client.on('error', () => {});
    if (fault.refuse === true) {
      client.resetAndDestroy();
      return;
    }
    if (fault.delayMs !== undefined) await delay(fault.delayMs);
    if (client.destroyed) return;
    const server = connect({ ...this.#target, allowHalfOpen: true });
    server.on('error', () => client.resetAndDestroy());
    this.#open.add(client);
    client.once('close', () => {
      this.#open.delete(client);
      server.destroy();
    });
    client.pipe(server);
    await this.#passDown(server, client, fault, healed);
  }

  async #passDown(server: Socket, client: Socket, fault: LinkFault, healed: Promise<void>): Promise<void> {
    let at = 0;
    const throttle = new Throttle(this.#connectionRate);
    try {
      for await (const chunk of server as AsyncIterable<Buffer>) {
        for (const piece of piecesOf(chunk)) {
          const rest = withinCut(corrupted(piece, at, fault.corruptAt), at, fault.cutAt);
          const stallAt = this.#silent.has(client) ? at : fault.stallAt;
          const before = stallAt === undefined ? rest.byteLength : Math.max(0, stallAt - at);
          await this.#write(client, rest.subarray(0, before), throttle);
          if (before < rest.byteLength) {
            await healed;
            await this.#write(client, rest.subarray(before), throttle);
          }
          at += rest.byteLength;
          if (at === fault.cutAt) {
            if (fault.cut === 'reset') client.resetAndDestroy();
            else client.destroySoon();
            return;
          }
        }
      }
      client.end();
    } catch {
      // Either side went away: the other one is told the same.
      client.destroy();
    }
  }

  async #write(client: Socket, piece: Buffer, throttle: Throttle): Promise<void> {
    if (piece.byteLength === 0) return;
    await this.#throttle.pass(piece.byteLength);
    await throttle.pass(piece.byteLength);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    client.write(piece, (error) => (error ? reject(error) : resolve()));
    await promise;
    this.bytesDown += piece.byteLength;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

const pieceSize = 16_384;

export function* piecesOf(chunk: Buffer): Iterable<Buffer> {
  for (let at = 0; at < chunk.byteLength; at += pieceSize) yield chunk.subarray(at, at + pieceSize);
}

/** The piece that begins at `at`, with the byte `corruptAt` turned over if it lies within. */
export function corrupted(piece: Buffer, at: number, corruptAt: number | undefined): Buffer {
  const byte = corruptAt === undefined ? undefined : piece[corruptAt - at];
  if (corruptAt === undefined || byte === undefined) return piece;
  const copy = Buffer.from(piece);
  copy[corruptAt - at] = byte ^ 0xff;
  return copy;
}

/** As much of the piece that begins at `at` as lies before `cutAt`. */
export function withinCut(piece: Buffer, at: number, cutAt: number | undefined): Buffer {
  return cutAt === undefined ? piece : piece.subarray(0, Math.max(0, cutAt - at));
}
