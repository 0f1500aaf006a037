import { NoRoom } from '../memory/byte-budget.js';
import type { Resolved } from '../proxy/proxy.js';
import type { Exchange } from './exchange.js';
import type { RegistryError } from './errors.js';

export type Headers = Record<string, string | number>;

export function sendError(exchange: Exchange, error: RegistryError): void {
  sendText(exchange, error.status, error.body, error.headers);
}

export function sendText(
  exchange: Exchange,
  status: number,
  text: string,
  headers: Headers = {},
  contentType = 'application/json; charset=utf-8',
): void {
  sendBytes(exchange, status, Buffer.from(text), { 'Content-Type': contentType, ...headers });
}

/** A whole answer; HEAD gets its headers alone. @throws NoRoom */
export function sendBytes(exchange: Exchange, status: number, bytes: Buffer, headers: Headers): void {
  if (!exchange.isHead) holdUntilSent(exchange, bytes);
  sendHeldBytes(exchange, status, bytes, headers);
}

/** As {@link sendBytes}, of an answer whose memory is already counted. */
export function sendHeldBytes(exchange: Exchange, status: number, bytes: Buffer, headers: Headers): void {
  const { response } = exchange;
  response.writeHead(status, { ...headers, 'Content-Length': bytes.byteLength });
  if (exchange.isHead) response.end();
  else {
    exchange.sent = bytes.byteLength;
    response.end(bytes);
  }
}

/** A whole answer of a shared text with something before and after it: the text is not copied. @throws NoRoom */
export function sendAround(
  exchange: Exchange,
  [before, shared, after]: readonly [string, Buffer, string],
  headers: Headers,
): void {
  const { response } = exchange;
  const length = Buffer.byteLength(before) + shared.byteLength + Buffer.byteLength(after);
  if (!exchange.isHead) holdUntilSent(exchange, shared);
  response.writeHead(200, { ...headers, 'Content-Length': length });
  if (!exchange.isHead) {
    exchange.sent = length;
    response.write(before);
    response.write(shared);
    response.write(after);
  }
  response.end();
}

/** @throws NoRoom, where clients that do not read hold as much as they may */
function holdUntilSent(exchange: Exchange, answer: Buffer): void {
  if (!exchange.hold(answer)) throw new NoRoom(answer.byteLength);
}

export function sendHead(exchange: Exchange, status: number, headers: Headers): void {
  exchange.response.writeHead(status, headers);
  exchange.response.end();
}

/** `Cache-Status` (RFC 9211), `Age` and `Warning`: what happened, for whoever looks at an answer. */
export function cacheHeaders({
  outcome,
  age,
  warning,
}: Pick<Resolved, 'outcome' | 'age' | 'warning'>): Headers {
  const headers: Headers = { 'Cache-Status': cacheStatus[outcome] };
  if (age !== undefined && outcome !== 'miss') headers['Age'] = age;
  if (warning !== undefined) headers['Warning'] = `299 - "${warning.replaceAll(/["\\]/g, "'")}"`;
  return headers;
}

const cacheStatus = {
  hit: 'cistern; hit',
  revalidated: 'cistern; hit; detail=revalidated',
  stale: 'cistern; hit; detail=stale',
  miss: 'cistern; fwd=miss',
} as const;
