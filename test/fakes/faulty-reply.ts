import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { Fault } from './fault.js';
import { corrupted, piecesOf, withinCut } from './link-proxy.js';
import type { Throttle } from './throttle.js';

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Whether a `Range` is honoured. */
  readonly ranged?: true;
}

export interface ReplyLink {
  readonly throttle: Throttle;
  /** Aborts when the client has gone. */
  readonly gone: AbortSignal;
  readonly onStatus: (status: number) => void;
  /** Called with body bytes when they have been handed to the kernel. */
  readonly onBytes: (bytes: number) => void;
}

/** Sends an answer, spoilt as the fault says. Settles when the answer ended, in whatever way. */
export async function reply(
  request: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  fault: Fault,
  link: ReplyLink,
): Promise<'complete' | 'cut'> {
  try {
    if (fault.hang === true) await never(link.gone);
    if (fault.headersAfterMs !== undefined)
      await delay(fault.headersAfterMs, undefined, { signal: link.gone });
    await settledOrGone(fault.headersAfter, link.gone);
    const { status, headers, body } = shaped(request, answer, fault);
    link.onStatus(status);
    response.writeHead(status, headers);
    if (request.method === 'HEAD') {
      response.end();
      return 'complete';
    }
    return await sendBody(response, body, fault, link);
  } catch (error) {
    // A write can be told of the end before the connection's own `close`.
    const { code = '' } = error as NodeJS.ErrnoException;
    const ended = ['ECONNRESET', 'EPIPE', 'ECANCELED'].includes(code);
    if (link.gone.aborted || response.destroyed || ended) return 'cut';
    throw error;
  }
}

interface Shaped {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

function shaped(request: IncomingMessage, answer: Answer, fault: Fault): Shaped {
  const { status, headers, body } = withRange(request, replaced(answer, fault), fault);
  const all: Record<string, string | undefined> = { ...headers };
  if (fault.chunked !== true) all['content-length'] = String(fault.contentLength ?? body.byteLength);
  if (fault.contentRange !== undefined) all['content-range'] = fault.contentRange;
  if (fault.contentLength !== undefined || fault.cutAt !== undefined) all['connection'] = 'close';
  const kept = Object.entries({ ...all, ...fault.headers }).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  return { status, headers: Object.fromEntries(kept), body };
}

function replaced(answer: Answer, fault: Fault): Answer {
  if (fault.redirect !== undefined) {
    return { status: 307, headers: { location: fault.redirect }, body: Buffer.alloc(0) };
  }
  if (fault.answer === undefined) return answer;
  const { status, headers = {}, body = '' } = fault.answer;
  return { status, headers, body: Buffer.from(body) };
}

function withRange(request: IncomingMessage, answer: Answer, fault: Fault): Answer {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  if (range === null || answer.ranged !== true || fault.ignoreRange === true) return answer;
  const size = answer.body.byteLength;
  const start = Number(range[1]);
  const end = Math.min(range[2] === '' ? size - 1 : Number(range[2]), size - 1);
  if (start > end) {
    return { status: 416, headers: { 'content-range': `bytes */${size}` }, body: Buffer.alloc(0) };
  }
  return {
    status: 206,
    headers: { ...answer.headers, 'content-range': `bytes ${start}-${end}/${size}` },
    body: answer.body.subarray(start, end + 1),
  };
}

async function sendBody(
  response: ServerResponse,
  body: Buffer,
  fault: Fault,
  link: ReplyLink,
): Promise<'complete' | 'cut'> {
  let at = 0;
  const stallAt = fault.stallAt ?? Infinity;
  const send = async (piece: Buffer) => {
    if (piece.byteLength === 0) return;
    await link.throttle.pass(piece.byteLength, link.gone);
    await written(response, piece, link.gone);
    at += piece.byteLength;
    link.onBytes(piece.byteLength);
  };
  for (const piece of piecesOf(body)) {
    const start = at;
    const rest = withinCut(corrupted(piece, start, fault.corruptAt), start, fault.cutAt);
    const before = Math.max(0, stallAt - start);
    await send(rest.subarray(0, before));
    if (before < rest.byteLength) {
      await settledOrGone(fault.until ?? never(link.gone), link.gone);
      await send(rest.subarray(before));
    }
    if (at === fault.cutAt) return cut(response, fault.cut ?? 'close');
  }
  if (fault.contentLength !== undefined) return cut(response, 'close');
  response.end();
  return 'complete';
}

function cut(response: ServerResponse, how: 'close' | 'reset'): 'cut' {
  // Headers alone have not been sent yet when no body byte was.
  response.flushHeaders();
  if (how === 'reset') response.socket?.resetAndDestroy();
  else response.socket?.destroySoon();
  return 'cut';
}

async function written(response: ServerResponse, piece: Buffer, gone: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  promise.catch(() => {}); // of a client that has gone already, `settledOrGone` tells
  response.write(piece, (error) => (error ? reject(error) : resolve()));
  await settledOrGone(promise, gone);
}

async function settledOrGone(promise: Promise<unknown> | undefined, gone: AbortSignal): Promise<void> {
  // It may fail after the client has gone, when nobody looks any more.
  promise?.catch(() => {});
  gone.throwIfAborted();
  if (promise === undefined) return;
  const done = new AbortController();
  const aborted = once(gone, 'abort', { signal: done.signal }).then(() => gone.throwIfAborted());
  aborted.catch(() => {});
  try {
    await Promise.race([promise, aborted]);
  } finally {
    done.abort();
  }
}

async function never(gone: AbortSignal): Promise<never> {
  gone.throwIfAborted();
  await once(gone, 'abort');
  throw gone.reason;
}
