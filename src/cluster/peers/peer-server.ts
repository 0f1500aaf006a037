import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { LRUCache } from 'lru-cache';
import { waitFor, within } from '../../async/wait.js';
import type { Logger } from '../../telemetry/log.js';
import {
  dataFrame,
  formatMessage,
  frameHead,
  longestMessage,
  messageFrame,
  type PeerFailure,
  type PeerMessage,
  type PeerProgress,
} from './frames.js';
import type { Seal } from './seal.js';

const heartbeatMs = 1_000;
const stalledMs = 30_000;
const chunkBytes = 256 * 1024;
const noncesKept = 20_000;
/** The proof before a message, and the space between them. */
const proofBytes = 65;

/** A spool of this process, as its replicas may read it: all that is in it, verified or not, for they verify too. */
export interface PeerSpool {
  readonly digest: string;
  progress(): PeerProgress;
  /** How it ended, if it has. */
  ended(): 'verified' | PeerFailure | undefined;
  readAt(offset: number, length: number): Promise<Uint8Array>;
  /** Settles when something has changed, or after this time. */
  changed(withinMs: number, signal: AbortSignal): Promise<void>;
  release(): Promise<void>;
}

/** What the metrics and the traces want to know of a stream; must not throw. */
export interface StreamObserver {
  sent(bytes: number): void;
  /** `failure`: why it was cut. */
  ended(failure: unknown): void;
}

export type ObserveStream = (digest: string, headers: IncomingHttpHeaders) => StreamObserver;

/**
 * The cluster port: live spools, to replicas that prove the secret, and nothing else. Who does not prove it learns
 * nothing, not even whether there is such a spool.
 */
export class PeerServer {
  readonly #nonces = new LRUCache<string, true>({ max: noncesKept });
  #refusals = 0;

  constructor(
    /** Any of them is proof. None: the secret is not known yet, so nobody can prove it. */
    private readonly seals: () => readonly Seal[],
    /** Held open until it is released; `undefined`: no such attempt here. */
    private readonly find: (attempt: string) => PeerSpool | undefined,
    private readonly log: Logger,
    private readonly observe: ObserveStream,
  ) {}

  handle(request: IncomingMessage, response: ServerResponse): void {
    this.#serve(request, response).catch((err: unknown) => {
      this.log.debug({ err }, 'a replica was cut off');
      response.destroy();
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = parseRequest(request);
    const seal = asked && this.#provenBy(asked);
    if (asked === undefined || seal === undefined) {
      this.#refusals += 1;
      if (this.#refusals === 1) {
        const from = request.socket.remoteAddress;
        this.log.warn({ from }, 'refused on the cluster port: no proof of the secret (said once)');
      }
      response.writeHead(403).end();
      return;
    }
    const spool = this.find(asked.attempt);
    if (spool === undefined) {
      response.writeHead(404).end();
      return;
    }
    try {
      if (spool.digest === asked.digest) await this.#sendObserved(spool, asked, seal, request, response);
      else response.writeHead(404).end();
    } finally {
      await spool.release();
    }
  }

  #provenBy(asked: PeerRequest): Seal | undefined {
    const seal = this.seals().find((each) => each.isRequest(asked, asked.mac));
    if (seal === undefined || this.#nonces.has(asked.nonce)) return undefined;
    this.#nonces.set(asked.nonce, true);
    return seal;
  }

  async #sendObserved(
    spool: PeerSpool,
    asked: PeerRequest,
    seal: Seal,
    { headers }: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const observer = this.observe(asked.digest, headers);
    let failure: unknown;
    try {
      await this.#send(spool, asked, seal, response, observer);
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      observer.ended(failure);
    }
  }

  async #send(
    spool: PeerSpool,
    asked: PeerRequest,
    seal: Seal,
    response: ServerResponse,
    observer: StreamObserver,
  ): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort(new Error('the replica closed the connection')));
    response.on('error', () => undefined);
    response.writeHead(200, { 'Content-Type': 'application/octet-stream' });
    let sequence = 0;
    const say = (message: PeerMessage): Promise<void> => {
      const text = formatMessage(message, longestMessage - proofBytes);
      const line = `${seal.message(asked.nonce, sequence, text)} ${text}`;
      sequence += 1;
      return write(response, messageFrame, Buffer.from(line), gone.signal);
    };
    let offset = asked.offset;
    let said = -Infinity;
    let named = 0;
    for (;;) {
      const ended = spool.ended();
      const progress = spool.progress();
      // A reader needs to know which upstreams gave the bytes before it gets them.
      if (performance.now() - said >= heartbeatMs || progress.repositories.length !== named) {
        said = performance.now();
        named = progress.repositories.length;
        await say(progress);
      }
      if (offset < progress.length) {
        const bytes = await spool.readAt(offset, Math.min(chunkBytes, progress.length - offset));
        offset += bytes.byteLength;
        await write(response, dataFrame, bytes, gone.signal);
        observer.sent(bytes.byteLength);
      } else if (ended !== undefined) {
        await say(ended === 'verified' ? { kind: 'complete', size: progress.length } : ended);
        response.end();
        return;
      } else await spool.changed(Math.max(1, heartbeatMs - (performance.now() - said)), gone.signal);
    }
  }
}

interface PeerRequest {
  readonly attempt: string;
  readonly digest: string;
  readonly offset: number;
  readonly nonce: string;
  readonly mac: string;
}

const target = /^\/spools\/((?:sha256|sha512):[a-f0-9]+)\?attempt=([a-f0-9]{32})&from=(\d{1,15})$/;
const proof = /^Cistern ([a-f0-9]{32}) ([a-f0-9]{64})$/;

export function peerPath(digest: string, attempt: string, offset: number): string {
  return `/spools/${digest}?attempt=${attempt}&from=${offset}`;
}

function parseRequest({ method, url, headers }: IncomingMessage): PeerRequest | undefined {
  const [, digest, attempt, from] = target.exec(url ?? '') ?? [];
  const [, nonce, mac] = proof.exec(headers.authorization ?? '') ?? [];
  if (method !== 'GET' || !digest || !attempt || from === undefined || !nonce || !mac) return undefined;
  return { digest, attempt, offset: Number(from), nonce, mac };
}

async function write(
  response: ServerResponse,
  type: number,
  payload: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  response.write(frameHead(type, payload.byteLength));
  if (response.write(payload)) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const late = (): Error => new Error(`the replica took nothing for ${stalledMs} ms`);
  response.once('drain', resolve);
  await within(waitFor(promise, signal), stalledMs, late).finally(() => response.off('drain', resolve));
}
