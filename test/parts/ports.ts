import { connect, createServer } from 'node:net';
import { until } from './process.js';

// Below Linux's ephemeral range, so that no outgoing connection takes a port between choosing and listening. Processes
// start at different places, so that they rarely look at the same port.
const first = 20_000;
const count = 12_000;
let next = (process.pid * 61) % count;

/** A free loopback port. Until this process ends, no other call returns it, in any test process of this machine. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries += 1) {
    const port = first + next;
    next = (next + 1) % count;
    if ((await canClaim(port)) && (await canListen(port))) return port;
  }
  throw new Error('no free port in 100 tries');
}

/** Claims a port by an abstract socket. The kernel releases the claim when the process ends, however it ends. */
function canClaim(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const claim = createServer().unref();
  claim.once('error', () => resolve(false));
  claim.listen(`\0cistern test port ${port}`, () => resolve(true));
  return promise;
}

function canListen(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once('error', () => resolve(false));
  server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  return promise;
}

/** Until something on loopback accepts connections on the port. */
export function waitForPort(port: number, signal: AbortSignal): Promise<void> {
  return until(() => accepts(port), signal);
}

function accepts(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, '127.0.0.1');
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
