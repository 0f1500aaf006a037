import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { settled } from '../async/wait.js';
import { giveUp } from '../memory/buffer-pool.js';
import type { Access } from './access.js';
import type { Exchange } from './exchange.js';
import type { HeldAnswers } from './held-answers.js';
import type { Limits } from './limits.js';
import { isPlain, longestPlain, mayComeAgain } from './plain-request.js';
import { longestReady, ReadyAnswers, type ReadyAnswer } from './ready-answers.js';

/** Up to this a body is sent in one piece with its head, which is cheaper than two by more than the copy costs. */
const longestJoined = 12 * 1024;

type Receiver = (this: Socket, chunk: Buffer) => void;

export interface FastLaneOptions {
  /** How long an answer may be given again, in milliseconds. */
  readonly lifetimeMs: number;
  /** `http.limits.idletimeout`, in milliseconds. */
  readonly idleMs: number;
  /** Of a connection whose client takes nothing of an answer, in milliseconds. */
  readonly stalledMs: number;
  readonly access: Access;
  readonly limits: Limits;
  readonly heldAnswers: HeldAnswers;
}

/**
 * Answers requests that were just answered, byte for byte the same, before the HTTP server reads them. The server has
 * every connection all the time, with its time-outs, limits and its end; the lane looks at what a connection receives
 * while the server waits for the next request, takes what it has a ready answer for, and hands on everything else.
 */
export class FastLane {
  readonly #answers = new ReadyAnswers();
  readonly #connections = new WeakMap<Socket, Connection>();
  /** Answers that clients have not taken yet. */
  readonly #unsent = new Set<Promise<void>>();
  readonly #lastLine: LastLine;
  #changes = 0;
  #open = true;

  constructor(private readonly options: FastLaneOptions) {
    this.#lastLine = new LastLine(options.idleMs);
  }

  /** A connection that the HTTP server has just set itself up on. */
  watch(socket: Socket): void {
    const [receiver, ...others] = socket.listeners('data');
    if (receiver === undefined || others.length > 0) return; // not as this Node has it: the server answers all
    const connection = new Connection(socket, receiver as Receiver, this);
    this.#connections.set(socket, connection);
    socket.off('data', receiver as Receiver);
    // To the server this connection is then like one over TLS, whose bytes also come as events.
    socket.on('data', (chunk: Buffer) => connection.receive(chunk));
  }

  /** The handler has begun with a request. Its answer is given again if the handler says that it may be. */
  follow(exchange: Exchange): void {
    const connection = this.#connections.get(exchange.request.socket);
    if (connection === undefined) return;
    const { request } = connection;
    const changes = this.#changes;
    exchange.response.once('close', () => {
      connection.answered();
      if (request !== undefined && changes === this.#changes) this.#learn(request, exchange);
    });
  }

  /** Something that was answered has changed. */
  forget(): void {
    this.#changes += 1;
    this.#answers.clear();
  }

  /** From now on the HTTP server answers all. */
  close(): void {
    this.#open = false;
    this.#answers.clear();
  }

  /** Settles when clients have what was sent to them, or when the signal aborts. */
  async sent(signal: AbortSignal): Promise<void> {
    await settled(this.#unsent, signal);
  }

  /** Answers, if that is possible. `false`: it is for the server. */
  answer(socket: Socket, request: string): boolean {
    const { access, limits, heldAnswers } = this.options;
    const started = performance.now();
    const ready = this.#answers.find(request, started);
    if (ready === undefined || limits.areReached || socket.writableLength > 0 || !socket.writable)
      return false;
    const release = ready.body && heldAnswers.take({ socket, headers: {} }, ready.body);
    if (ready.body !== undefined && release === undefined) return false;
    const id = access.newId(undefined);
    const head = ready.before + id + ready.after + this.#lastLine.now();
    write(socket, head, ready.body);
    const ended = (complete: boolean): void => {
      release?.();
      access.endRepeated(ready.repeated, id, socket, started, complete);
    };
    if (socket.writableLength === 0) ended(true);
    else this.#waitFor(socket, ended);
    return true;
  }

  /** Whether a request is given to the lane at all. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** The client's buffers are full. Until it has taken the answer, its connection is not idle. */
  #waitFor(socket: Socket, ended: (complete: boolean) => void): void {
    const { timeout: idleMs = 0 } = socket;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#unsent.add(promise);
    socket.setTimeout(this.options.stalledMs);
    socket.write('', (error) => {
      this.#unsent.delete(promise);
      resolve();
      // The server sets its own when it has begun with another request meanwhile.
      if (this.#connections.get(socket)?.isIdle === true) socket.setTimeout(idleMs);
      ended(error === undefined || error === null);
    });
  }

  #learn(request: string, exchange: Exchange): void {
    const { response, repeatable, failure } = exchange;
    if (repeatable === undefined || failure !== undefined || !this.#open) return;
    if (!response.writableFinished || !mayComeAgain(request)) return;
    const now = performance.now();
    if (!this.#answers.isRepeated(request, now)) return;
    const { body } = repeatable;
    const until = Math.min(repeatable.until, now + this.options.lifetimeMs);
    const head = headOf(exchange);
    if (until <= now || head === undefined || (body?.byteLength ?? 0) > longestReady) return;
    const repeated = this.options.access.repeat(exchange);
    this.#answers.put(request, { ...head, body, until, repeated }, now);
  }
}

/** What a connection receives, and whether it is between two requests. */
class Connection {
  /** Requests that the server has, and has not answered. */
  #open = 0;
  /** Whether one was answered by the server: until then its time-out for the first one runs. */
  #begun = false;
  /** Whether it is known where each request ends. Once it is not, it never is again. */
  #certain = true;
  /** The one that the server is given now. */
  #request: string | undefined;

  constructor(
    private readonly socket: Socket,
    private readonly toServer: Receiver,
    private readonly lane: FastLane,
  ) {}

  /** The server waits for a request. */
  get isIdle(): boolean {
    return this.#open === 0;
  }

  receive(chunk: Buffer): void {
    if (this.#certain && this.lane.isOpen) {
      const request = chunk.byteLength > longestPlain ? undefined : chunk.toString('latin1');
      if (
        this.#open === 0 &&
        this.#begun &&
        request !== undefined &&
        this.lane.answer(this.socket, request)
      ) {
        giveUp(chunk);
        return;
      }
      this.#certain = request !== undefined && isPlain(request);
      if (this.#certain) {
        this.#open += 1;
        this.#request = request;
      }
    }
    this.toServer.call(this.socket, chunk);
    if (this.#request !== undefined) giveUp(chunk); // all of it was read, and there is no body
    this.#request = undefined;
  }

  /** The bytes of the request that the handler is called for; `undefined` where they are not known. */
  get request(): string | undefined {
    return this.#request;
  }

  answered(): void {
    this.#open -= 1;
    this.#begun = true;
  }
}

function write(socket: Socket, head: string, body: Buffer | undefined): void {
  if (body === undefined) socket.write(head, 'latin1');
  else if (body.byteLength <= longestJoined) socket.write(head + body.toString('latin1'), 'latin1');
  else {
    socket.cork();
    socket.write(head, 'latin1');
    socket.write(body);
    socket.uncork();
  }
}

/** The head of an answer as the server wrote it, without what {@link LastLine} has; in two parts, before and after the id. */
function headOf({ response, id }: Exchange): Pick<ReadyAnswer, 'before' | 'after'> | undefined {
  if (!response.hasHeader('content-length')) return undefined;
  let head = `HTTP/1.1 ${response.statusCode} ${response.statusMessage}\r\n`;
  let before: string | undefined;
  for (const name of namesIn(response)) {
    if (name === idHeader) {
      before = `${head}${name}: `;
      head = '\r\n';
    } else {
      for (const value of [response.getHeader(name)].flat()) head += `${name}: ${value}\r\n`;
    }
  }
  return before === undefined || response.getHeader(idHeader) !== id ? undefined : { before, after: head };
}

/** As they are written. Node has it for every outgoing message; its types for requests alone. */
function namesIn(response: ServerResponse & { getRawHeaderNames?(): string[] }): readonly string[] {
  return response.getRawHeaderNames?.() ?? [];
}

/** Set on every answer. */
export const idHeader = 'X-Request-Id';

/** What Node puts at the end of each head: the date, and for how long the connection is kept. */
class LastLine {
  #second = 0;
  #text = '';
  readonly #keepAlive: string;

  constructor(idleMs: number) {
    this.#keepAlive = `\r\nConnection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(idleMs / 1000)}\r\n\r\n`;
  }

  now(): string {
    const ms = Date.now();
    const second = Math.floor(ms / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#text = `Date: ${new Date(ms).toUTCString()}${this.#keepAlive}`;
    }
    return this.#text;
  }
}
