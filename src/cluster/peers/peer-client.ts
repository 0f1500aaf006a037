import { request, type IncomingMessage } from 'node:http';
import type { Digest } from '../../oci/digest.js';
import type { PeerRecord } from '../cluster.js';
import {
  FrameError,
  FrameReader,
  messageFrame,
  parseMessage,
  type PeerFailure,
  type PeerMessage,
  type PeerProgress,
} from './frames.js';
import { peerPath } from './peer-server.js';
import type { Seal } from './seal.js';

/** A replica that says nothing for this long is dead, stopped or cut off; alive it says so every second. */
export const silenceMs = 3_000;

export type PeerCode =
  /** No connection, or no answer. */
  | 'unreachable'
  /** Nothing more came over the connection. */
  | 'silent'
  /** The connection ended in the middle. */
  | 'broken'
  /** One of the two does not know the other's secret. */
  | 'refused'
  /** It has no such spool any more. */
  | 'gone'
  /** Its transfer failed, for a reason of its own. */
  | 'failed'
  /** The other replica sent bytes before it named the upstream that gave them. */
  | 'early'
  /** The upstream of this replica's repository does not confirm the content of the other replica. */
  | 'unproven'
  /** It does not speak as it should. */
  | 'invalid';

export class PeerError extends Error {
  override readonly name = 'PeerError';
  constructor(
    readonly code: PeerCode,
    readonly peer: string,
    reason: string,
    /** What the other one said of its failure. */
    readonly failure?: PeerFailure,
  ) {
    super(`replica ${peer}: ${reason}`);
  }
}

/** Runs while we wait for the other replica, not while it waits for our disk. */
class Silence {
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly over: () => void) {
    this.begin();
  }

  begin(): void {
    this.#timer = setTimeout(this.over, silenceMs);
  }

  end(): void {
    clearTimeout(this.#timer);
  }
}

export interface PeerReadOptions {
  /** How long to wait for its answer. */
  readonly answerMs?: number | undefined;
  /** Beside our own. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** What comes over a peer stream: the spool's bytes, and how the other one fares. */
export type PeerEvent = { readonly bytes: Buffer } | PeerProgress;

/**
 * Reads another replica's live spool from an offset: what is there at once, then what arrives. Ends normally only
 * after the other one said that all its bytes are right. Throws {@link PeerError}, or the signal's reason.
 *
 */
export async function* readPeer(
  peer: PeerRecord,
  digest: Digest,
  offset: number,
  seal: Seal,
  signal: AbortSignal,
  options: PeerReadOptions = {},
): AsyncGenerator<PeerEvent> {
  const { url, attempt } = peer;
  const nonce = seal.newNonce();
  const response = await open(peer, digest, offset, nonce, seal, signal, options);
  const frames = new FrameReader();
  let sequence = 0;
  const silence = new Silence(() => response.destroy(new PeerError('silent', url, 'went silent')));
  const leave = (): void => void response.destroy(signal.reason as Error);
  signal.addEventListener('abort', leave, { once: true });
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      silence.end();
      for (const { type, payload } of frames.push(chunk)) {
        if (type !== messageFrame) {
          yield { bytes: payload };
          continue;
        }
        const message = readMessage(peer, payload, nonce, sequence, seal);
        sequence += 1;
        if (message.kind === 'complete') return;
        if (message.kind === 'failed') throw new PeerError('failed', url, message.reason, message);
        yield message;
      }
      silence.begin();
    }
    throw new PeerError('broken', url, `the stream of attempt ${attempt} ended early`);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof PeerError) throw error;
    if (error instanceof FrameError) throw new PeerError('invalid', url, error.message);
    throw new PeerError(
      'broken',
      url,
      `the stream broke: ${(error as NodeJS.ErrnoException).code ?? String(error)}`,
    );
  } finally {
    silence.end();
    signal.removeEventListener('abort', leave);
    response.destroy();
  }
}

function open(
  { url, attempt }: PeerRecord,
  digest: Digest,
  offset: number,
  nonce: string,
  seal: Seal,
  signal: AbortSignal,
  { answerMs = silenceMs, headers = {} }: PeerReadOptions,
): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const mac = seal.request({ attempt, digest, offset, nonce });
  // Outside of any proxy that the environment names, and a connection of its own: it lives as long as the stream.
  const sent = request(new URL(peerPath(digest, attempt, offset), url), {
    headers: { ...headers, authorization: `Cistern ${nonce} ${mac}` },
    agent: false,
    signal,
  });
  const timer = setTimeout(() => sent.destroy(new PeerError('unreachable', url, 'no answer')), answerMs);
  sent.once('response', (response) => {
    clearTimeout(timer);
    if (response.statusCode === 200) resolve(response);
    else {
      response.destroy();
      const code = response.statusCode === 404 ? 'gone' : 'refused';
      reject(new PeerError(code, url, `answered ${response.statusCode}`));
    }
  });
  sent.once('error', (error: NodeJS.ErrnoException) => {
    clearTimeout(timer);
    if (signal.aborted) reject(signal.reason as Error);
    else
      reject(
        error instanceof PeerError ? error : new PeerError('unreachable', url, error.code ?? error.message),
      );
  });
  sent.end();
  return promise;
}

function readMessage(
  { url }: PeerRecord,
  payload: Buffer,
  nonce: string,
  sequence: number,
  seal: Seal,
): PeerMessage {
  const line = payload.toString('utf8');
  const space = line.indexOf(' ');
  const text = line.slice(space + 1);
  if (!seal.isMessage(nonce, sequence, text, line.slice(0, space))) {
    throw new PeerError('invalid', url, 'a message without proof of the secret');
  }
  return parseMessage(text);
}
