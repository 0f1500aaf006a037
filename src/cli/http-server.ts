import { unlink } from 'node:fs/promises';
import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { HttpConfig, HttpLimits, TlsConfig } from '../config/config.js';
import { parseListen } from '../config/listen.js';
import { ClientAddresses, clientKey } from '../registry/client-address.js';
import { Shares } from '../memory/shares.js';
import type { Logger } from '../telemetry/log.js';
import { endOf, followCertificates, readCertificates } from './certificates.js';

/** Of servers that clients do not reach. */
const keepAliveMs = 120_000;
const headersMs = 30_000;
/** Nothing may move on a connection for so long while its answer is made. */
const answerMs = 30_000;
/** What goes on is said again after this. */
const repeatMs = 60_000;

/**
 * @param ends told when the certificate in use ends, in milliseconds since 1970, for each that is taken
 * @throws where the certificate or the key cannot be read or do not fit. Later ones are taken when the files change.
 */
export function createHttpServer(
  tls: TlsConfig | undefined,
  listener: RequestListener,
  log: Logger,
  clients?: Pick<HttpConfig, 'limits' | 'trustedproxies'>,
  ends: (atMs: number) => void = () => undefined,
): Server {
  const options =
    clients === undefined
      ? { keepAliveTimeout: keepAliveMs, headersTimeout: headersMs, requestTimeout: 0 }
      : optionsFor(clients.limits);
  const server =
    tls === undefined
      ? createServer(options, listener)
      : createSecureServer(tls, options, listener, log, ends);
  server.on('clientError', refuse);
  server.on('error', (err) => {
    // Until the server listens, `listen` gives the error to its caller.
    if (server.listening) log.error({ err }, 'a connection could not be accepted');
  });
  if (clients !== undefined) {
    // For answers written in one piece. The sender of a stream notices a stalled client by itself, and earlier.
    server.timeout = clients.limits.readtimeout + answerMs;
    limitConnections(server, clients.limits.connections, new ClientAddresses(clients.trustedproxies), log);
  }
  return server;
}

function optionsFor({ headersize, headertimeout, idletimeout }: HttpLimits): ServerOptions {
  return {
    maxHeaderSize: headersize,
    headersTimeout: headertimeout,
    requestTimeout: headertimeout, // no request that is honoured has a body
    connectionsCheckingInterval: Math.min(headertimeout, headersMs) / 2,
    keepAliveTimeout: idletimeout,
  };
}

/** Limits each address to its share of the connections, except trusted proxies, which connect for many clients. */
function limitConnections(server: Server, most: number, addresses: ClientAddresses, log: Logger): void {
  const shares = new Shares(most);
  let quietUntil = 0;
  const warn = (facts: { readonly address?: string }): void => {
    if (performance.now() < quietUntil) return;
    quietUntil = performance.now() + repeatMs;
    log.warn(
      { connections: most, ...facts },
      'the limit of connections is reached: the mirror closes further ones at once',
    );
  };
  server.maxConnections = most;
  server.on('drop', () => warn({}));
  server.on('connection', (socket: Socket) => {
    const client = addresses.isProxied(socket) ? undefined : clientKey(addresses.of({ socket, headers: {} }));
    if (!shares.haveRoomForAll && !shares.haveRoomFor(client)) {
      socket.destroy();
      if (client !== undefined) warn({ address: client });
      return;
    }
    socket.once('close', shares.take(client));
  });
}

function createSecureServer(
  tls: TlsConfig,
  options: ServerOptions,
  listener: RequestListener,
  log: Logger,
  ends: (atMs: number) => void,
): Server {
  // As registry has it: with authorities of clients, none without a certificate of theirs comes in.
  const verified = tls.clientcas.length > 0;
  const clients = { requestCert: verified, rejectUnauthorized: verified };
  const certificates = readCertificates(tls);
  const server = createTlsServer({ ...options, ...certificates, ...clients }, listener);
  ends(endOf(certificates));
  const closed = new AbortController();
  server.once('close', () => closed.abort());
  followCertificates(server, tls, log, ends, closed.signal);
  return server;
}

const statuses: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** What is no HTTP gets an answer in the same form as everything else, and the end of its connection. */
function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = statuses[error.code ?? ''] ?? '400 Bad Request';
  const body = `${JSON.stringify({ errors: [{ code: 'UNSUPPORTED', message: 'the request cannot be read' }] })}\n`;
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** Settles when the server takes connections; returns where, for the log. Rejects with the system's error. */
export async function listen(
  server: Server,
  { net, addr }: Pick<HttpConfig, 'net' | 'addr'>,
): Promise<string> {
  if (net === 'unix') await unlink(addr).catch(ignoreAbsent);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(net === 'unix' ? { path: addr } : (parseListen(addr) ?? {}), resolve);
  await promise;
  server.off('error', reject);
  const bound = server.address() as AddressInfo | string;
  if (typeof bound === 'string') return bound;
  return `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

/** Settles when the server takes connections of this user alone, on a socket at this path. */
export async function listenPrivately(server: Server, path: string): Promise<void> {
  await unlink(path).catch(ignoreAbsent);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // The socket is made by the call itself, so nobody ever sees it with other rights.
  const umask = process.umask(0o177);
  try {
    server.listen({ path }, resolve);
  } finally {
    process.umask(umask);
  }
  await promise;
  server.off('error', reject);
}

/** No new connections; settles when the open requests are answered, or cuts them when the signal aborts. */
export async function closeGracefully(server: Server, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cut = (): void => server.closeAllConnections();
  server.close(() => resolve());
  server.closeIdleConnections();
  if (signal.aborted) cut();
  else signal.addEventListener('abort', cut, { once: true });
  await promise;
  signal.removeEventListener('abort', cut);
}

function ignoreAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
