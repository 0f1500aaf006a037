import { request as plainRequest, type RequestOptions } from 'node:http';
import { request as secureRequest } from 'node:https';
import { connect, type ConnectionOptions } from 'node:tls';
import type { HttpConfig } from '../config/config.js';
import { ConfigError, formatFaults } from '../config/faults.js';
import { parseListen } from '../config/listen.js';
import { loadConfig, type LoadOptions } from '../config/load.js';
import { exit, type ExitCode } from './exit-codes.js';

/** Below the time that the image's HEALTHCHECK gives. */
const timeoutMs = 4_000;

/** What went wrong, in words for `docker inspect`. */
class Unhealthy extends Error {
  override readonly name = 'Unhealthy';
  readonly code = 'unhealthy';
}

/** Asks the mirror of this configuration, on this machine, whether it is alive; upstreams and storage have no say. */
export async function healthcheck(options: LoadOptions, stderr: NodeJS.WritableStream): Promise<ExitCode> {
  try {
    await ask(loadConfig(options).config.http, AbortSignal.timeout(timeoutMs));
    return exit.done;
  } catch (error) {
    if (error instanceof ConfigError) stderr.write(`${formatFaults(error)}\n`);
    else stderr.write(`cistern: ${error instanceof Error ? error.message : String(error)}\n`);
    return exit.failed;
  }
}

/** Settles when the server says that it is alive. Rejects where it says something else, or nothing until the signal aborts. */
export function ask(http: Pick<HttpConfig, 'net' | 'addr' | 'tls'>, signal: AbortSignal): Promise<void> {
  const place = placeOf(http);
  return http.tls !== undefined && http.tls.clientcas.length > 0
    ? handshake(place, signal)
    : askAlive(place, http.tls !== undefined, signal);
}

type Place = { readonly path: string } | { readonly host: string; readonly port: number };

/** Where a server that listens there is reached from the same machine. */
export function placeOf({ net, addr }: Pick<HttpConfig, 'net' | 'addr'>): Place {
  if (net === 'unix') return { path: addr };
  const { host = '0.0.0.0', port } = parseListen(addr) ?? { port: 0 };
  if (port === 0) throw new Unhealthy(`http.addr ${addr} does not say which port to ask`);
  if (host === '0.0.0.0') return { host: '127.0.0.1', port };
  return { host: host === '::' ? '::1' : host, port };
}

async function askAlive(place: Place, tls: boolean, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
  // The certificate is for clients' name of the mirror, not for this address.
  const options: RequestOptions = 'path' in place ? { socketPath: place.path } : place;
  const send = tls ? secureRequest : plainRequest;
  send({ ...options, path: '/healthz', agent: false, rejectUnauthorized: false, signal }, (response) => {
    response.resume();
    response.once('error', reject);
    response.once('end', () => resolve(response.statusCode));
  })
    .once('error', reject)
    .end();
  const status = await promise;
  if (status !== 200) throw new Unhealthy(`/healthz was answered ${status}`);
}

/** Where clients need a certificate this one has none: whoever answers its greeting is alive. */
async function handshake(place: Place, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const options: ConnectionOptions = { ...place, rejectUnauthorized: false };
  const socket = connect(options, resolve);
  const abort = (): void => void socket.destroy(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code?.startsWith('ERR_SSL_') === true) resolve();
    else reject(error);
  });
  socket.once('close', () => reject(new Unhealthy('the connection was closed')));
  try {
    await promise;
  } finally {
    signal.removeEventListener('abort', abort);
    socket.destroy();
  }
}
