import { createServer } from 'node:net';
import { get as getPlain, type IncomingMessage } from 'node:http';
import { get as getSecure } from 'node:https';
import type { Config } from '../config/config.js';
import { parseListen } from '../config/listen.js';
import { readAtMost } from '../memory/read-at-most.js';
import { codeOf, type Check, type Tell } from './check.js';

const patienceMs = 2_000;

interface Port {
  readonly key: string;
  readonly addr: string;
}

/** The ports of the configuration: apart from each other, and free, or held by the mirror that runs here. */
export function portsCheck(config: Config, running: () => Promise<boolean>): Check {
  const ports = portsOf(config);
  return {
    name: 'ports',
    run: async (tell) => {
      const clash = clashIn(ports);
      if (clash !== undefined) {
        const [one, other] = clash;
        tell.fail(`${one.key} and ${other.key} are both ${one.addr}`, 'give each of them a port of its own');
        return;
      }
      const mirror = await running();
      const taken = await Promise.all(ports.map(async (port) => ({ port, reason: await obstacleTo(port) })));
      const bad = taken.filter(({ reason }) => reason !== undefined && !(mirror && reason === 'EADDRINUSE'));
      for (const { port, reason } of bad) tellObstacle(port, reason ?? '', tell);
      if (bad.length > 0) return;
      const list = ports.map(({ addr }) => addr).join(', ');
      tell.ok(
        mirror
          ? `the mirror runs here (${list})`
          : `${list} can be listened on; the mirror does not run here`,
      );
    },
  };
}

const alive = 'ok\n';

/** Whether a mirror answers where this configuration has one. */
export async function isRunning({ http }: Config): Promise<boolean> {
  const listened = parseListen(http.addr);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const unknown = listened?.host === undefined || listened.host === '0.0.0.0' || listened.host === '::';
  const target =
    http.net === 'unix'
      ? { socketPath: http.addr }
      : { host: unknown ? '127.0.0.1' : listened.host, port: listened?.port };
  // Whose certificate it is does not matter here: nothing but this is asked.
  const options = {
    ...target,
    path: '/healthz',
    timeout: patienceMs,
    agent: false,
    rejectUnauthorized: false,
  };
  const request = http.tls === undefined ? getPlain(options, resolve) : getSecure(options, resolve);
  request.once('error', reject);
  request.once('timeout', () => request.destroy(new Error('silent')));
  try {
    const response = await promise;
    const answer = await readAtMost(response as AsyncIterable<Buffer>, alive.length);
    return response.statusCode === 200 && answer.toString() === alive;
  } catch {
    return false; // nobody, or somebody else
  }
}

function portsOf({ http, redis, cluster }: Config): Port[] {
  return [
    ...(http.net === 'tcp' ? [{ key: 'http.addr', addr: http.addr }] : []),
    ...(http.debug === undefined ? [] : [{ key: 'http.debug.addr', addr: http.debug.addr }]),
    ...(redis === undefined ? [] : [{ key: 'cluster.addr', addr: cluster.addr }]),
  ];
}

function clashIn(ports: readonly Port[]): readonly [Port, Port] | undefined {
  for (const [index, one] of ports.entries()) {
    const other = ports.slice(index + 1).find((each) => isSame(one.addr, each.addr));
    if (other !== undefined) return [one, other];
  }
  return undefined;
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [parseListen(one), parseListen(other)];
  if (a === undefined || b === undefined || a.port !== b.port || a.port === 0) return false;
  return a.host === undefined || b.host === undefined || a.host === b.host;
}

/** The system's reason why nobody could listen there now. */
async function obstacleTo({ addr }: Port): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const server = createServer();
  server.once('error', (error) => resolve(codeOf(error)));
  server.listen(parseListen(addr) ?? {}, () => server.close(() => resolve(undefined)));
  return await promise;
}

function tellObstacle({ key, addr }: Port, reason: string, tell: Tell): void {
  const advices: Readonly<Record<string, string>> = {
    EADDRINUSE: `somebody else listens there, and it is no mirror: stop that, or change ${key}`,
    EACCES: `only root may listen there: take a port above 1023 for ${key}`,
    EADDRNOTAVAIL: `no interface here has that address: change ${key}`,
  };
  tell.fail(`${key} ${addr} cannot be listened on: ${reason}`, advices[reason] ?? `change ${key}`);
}
