import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { BufferPool, poolWithRoom } from '../../memory/buffer-pool.js';
import { bodyLength, parseHead, staysOpen, type ResponseHead } from './response-head.js';

const connectMs = 1_500;
/** Silence before an answer after which it is given up. */
const headIdleMs = 4_000;
/** The same within a body, while somebody waits for its next bytes. */
const bodyIdleMs = 15_000;
/** A connection that nobody has used for so long is closed: something between here and there may have forgotten it. */
const restMs = 15_000;
const headBytes = 16 * 1024;
/** The larger a read, the less often gateway, mirror and client wake each other. */
const chunkPools = [
  { pool: new BufferPool(1024 * 1024, 8), most: 8 },
  { pool: new BufferPool(256 * 1024, 32), most: 32 },
] as const;
const smallChunks = new BufferPool(32 * 1024, 64);

export type ConnectionFault =
  /** It was kept from an earlier request, and the server had closed it meanwhile. */
  | 'stale'
  /** It could not be made, or broke. */
  | 'broken'
  /** The server was silent for too long. */
  | 'silent'
  /** The answer is none that is read here. */
  | 'unread';

export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  constructor(
    readonly code: ConnectionFault,
    /** The system's name of what happened, where it has one. */
    readonly reason: string,
  ) {
    super(`${code}: ${reason}`);
  }
}

/** How a server is reached; with `tls` over TLS. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly tls: Pick<ConnectionOptions, 'ca' | 'rejectUnauthorized'> | undefined;
}

interface Waiter {
  readonly resolve: (bytes: Uint8Array | undefined) => void;
  readonly reject: (error: ConnectionError) => void;
}

/**
 * An HTTP/1.1 connection for plain GETs, one after the other. Node's own client makes a new buffer for each 64 KiB
 * that arrive; this one reads into a buffer that stays and is up to sixteen times as large, which takes much less
 * of the processor's time. The socket is read only while somebody waits, so the server goes no faster than the reader.
 *
 * Over TLS the system cannot read into that buffer: what was received together is deciphered together, and handed on
 * whether or not somebody waits. It stays in the socket's stream until then.
 */
export class ObjectConnection {
  readonly #socket: Socket;
  readonly #isTls: boolean;
  readonly #head = Buffer.allocUnsafeSlow(headBytes);
  #phase: 'idle' | 'head' | 'body' = 'head';
  #answer: ResponseHead | undefined;
  #body: Buffer | undefined;
  /** Where the body's buffer is from. */
  #pool = smallChunks;
  /** Bytes in the buffer that is read into, from before. */
  #filled = 0;
  /** Of the body, still to come from the server. */
  #remaining = 0;
  /** A whole body that came with its head. */
  #early: Uint8Array | undefined;
  #waiter: Waiter | undefined;
  #watch: NodeJS.Timeout;
  #failure: ConnectionError | undefined;
  #isKept = false;
  #mayStay = true;

  /** Begins to connect. */
  constructor({ host, port, tls }: Endpoint) {
    const onread = {
      buffer: () => this.#space(),
      callback: (length: number) => this.#received(this.#filled + length),
    };
    const options = { host, port, noDelay: true, keepAlive: true };
    const name = isIP(host) === 0 ? { servername: host } : {};
    this.#isTls = tls !== undefined;
    if (tls === undefined) this.#socket = connect({ ...options, onread });
    else this.#socket = connectTls({ ...options, ...name, ...tls }).on('readable', () => this.#pull());
    this.#watch = this.#timer(connectMs);
    this.#socket.once(tls === undefined ? 'connect' : 'secureConnect', () => this.#allow(headIdleMs));
    this.#socket.once('error', (error: NodeJS.ErrnoException) => {
      this.#fail('broken', error.code ?? error.name);
    });
    this.#socket.once('close', () => this.#fail('broken', 'closed'));
  }

  /** The last answer's body was read to its end, and another request may be sent. */
  get isFree(): boolean {
    return this.#phase === 'idle' && this.#mayStay && this.#failure === undefined;
  }

  /** Sends a GET and waits for the head of its answer. `path`: with the query. Throws ConnectionError. */
  async get(path: string, headers: Readonly<Record<string, string>>): Promise<ResponseHead> {
    if (this.#failure !== undefined) throw this.#failure;
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#socket.write(`GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1');
    if (this.#isKept) {
      this.#phase = 'head';
      this.#allow(headIdleMs);
    }
    await this.#wait();
    if (this.#answer === undefined) throw new ConnectionError('unread', 'no head');
    return this.#answer;
  }

  /**
   * The body's next bytes, `undefined` after its end. They are the caller's until it asks again. Throws
   * ConnectionError, also where the body is cut.
   */
  async read(): Promise<Uint8Array | undefined> {
    const early = this.#early;
    this.#early = undefined;
    if (early !== undefined && early.byteLength > 0) return early;
    if (this.#remaining === 0) {
      this.#rest();
      return undefined;
    }
    if (this.#failure !== undefined) throw this.#failure;
    this.#allow(bodyIdleMs);
    const next = this.#wait();
    this.#readOn();
    return next;
  }

  /** Also in the middle of a body. Whoever reads it has done with its last bytes. */
  close(): void {
    this.#fail('broken', 'closed here');
    this.#giveBack();
  }

  #wait(): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
    });
  }

  #give(bytes: Uint8Array | undefined): void {
    clearTimeout(this.#watch);
    this.#waiter?.resolve(bytes);
    this.#waiter = undefined;
  }

  #readOn(): void {
    if (this.#isTls) this.#pull();
    else this.#socket.resume();
  }

  /** What TLS has deciphered, as far as somebody waits for it. With nothing under way, to hear of the end. */
  #pull(): void {
    while (this.#failure === undefined && (this.#waiter !== undefined || this.#phase === 'idle')) {
      const space = this.#space();
      const bytes = this.#socket.read(
        Math.min(this.#socket.readableLength, space.byteLength),
      ) as Buffer | null;
      if (bytes === null) return;
      space.set(bytes);
      this.#received(this.#filled + bytes.byteLength);
    }
  }

  /** Where the socket reads to next: it asks as soon as it has read, so after a body that is the next answer's head. */
  #space(): Uint8Array {
    const buffer = this.#remaining > 0 ? this.#body : undefined;
    return (buffer ?? this.#head).subarray(this.#filled);
  }

  /** `filled`: bytes that the buffer holds now. Returns whether to read on at once. */
  #received(filled: number): boolean {
    if (this.#phase === 'head') return this.#receivedHead(filled);
    if (this.#phase === 'body') this.#receivedBody(filled);
    else this.#fail('unread', 'an answer to nothing');
    return false;
  }

  #receivedHead(filled: number): boolean {
    this.#filled = filled;
    const received = this.#head.subarray(0, filled);
    const end = received.indexOf('\r\n\r\n');
    if (end < 0 && filled < headBytes) return true;
    const text = received.toString('latin1', 0, Math.max(end, 0));
    const answer = parseHead(text);
    const size = answer && bodyLength(answer);
    const rest = received.subarray(end + 4);
    if (answer === undefined || size === undefined || rest.byteLength > size) {
      this.#fail('unread', 'another kind of answer');
      return false;
    }
    this.#answer = answer;
    this.#mayStay = staysOpen(text, answer);
    this.#beginBody(rest, size);
    this.#give(undefined);
    return false;
  }

  #beginBody(came: Uint8Array, size: number): void {
    this.#phase = 'body';
    this.#filled = 0;
    this.#remaining = size - came.byteLength;
    if (this.#remaining === 0) {
      this.#early = came;
      return;
    }
    // Put before what is read next, so that a small body is one piece.
    this.#pool = poolWithRoom(chunkPools, smallChunks);
    this.#body = this.#pool.take();
    this.#body.set(came);
    this.#filled = came.byteLength;
  }

  #receivedBody(filled: number): void {
    this.#remaining -= filled - this.#filled;
    this.#filled = 0;
    if (this.#remaining < 0) this.#fail('unread', 'more than was announced');
    else this.#give(this.#body?.subarray(0, filled));
  }

  /** Nothing is under way: it is read, so as to hear when the server closes it. */
  #rest(): void {
    if (this.#phase !== 'body') return;
    this.#phase = 'idle';
    this.#answer = undefined;
    this.#isKept = true;
    this.#giveBack();
    if (this.#failure !== undefined) return;
    this.#allow(restMs);
    this.#readOn();
  }

  #giveBack(): void {
    if (this.#body !== undefined) this.#pool.give(this.#body);
    this.#body = undefined;
  }

  #allow(silenceMs: number): void {
    clearTimeout(this.#watch);
    this.#watch = this.#timer(silenceMs);
  }

  #timer(silenceMs: number): NodeJS.Timeout {
    return setTimeout(() => this.#fail('silent', `nothing for ${silenceMs} ms`), silenceMs);
  }

  /** It is of no more use until it is closed: somebody may have its last bytes. The first reason stays. */
  #fail(code: ConnectionFault, reason: string): void {
    if (this.#failure !== undefined) return;
    clearTimeout(this.#watch);
    const isStale = code === 'broken' && this.#isKept && this.#phase === 'head' && this.#filled === 0;
    this.#failure = new ConnectionError(isStale ? 'stale' : code, reason);
    this.#socket.destroy();
    this.#waiter?.reject(this.#failure);
    this.#waiter = undefined;
  }
}
