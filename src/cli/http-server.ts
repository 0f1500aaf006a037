import { readFileSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { HttpConfig, TlsConfig } from '../config/config.js';
import { parseListen } from '../config/listen.js';

/** Longer than the idle time of the usual load balancers (Traefik 90 s), so that they close first. */
const keepAliveMs = 120_000;
const headersMs = 30_000;

/** @throws where the certificate or the key cannot be read or do not fit. */
export function createHttpServer(tls: TlsConfig | undefined, listener: RequestListener): Server {
  const options = { keepAliveTimeout: keepAliveMs, headersTimeout: headersMs, requestTimeout: 0 };
  if (tls === undefined) return createServer(options, listener);
  return createTlsServer(
    {
      ...options,
      cert: readFileSync(tls.certificate),
      key: readFileSync(tls.key),
      minVersion: tls.minimumtls ?? 'TLSv1.2',
    },
    listener,
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
