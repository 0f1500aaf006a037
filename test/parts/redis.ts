import { Redis } from 'ioredis';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { freePort } from './ports.js';
import { type RunningProcess, startProcess, untilLogged, untilReady } from './process.js';

export interface RedisServer extends AsyncDisposable {
  /** `127.0.0.1:port`, as in `redis.addr`. */
  readonly addr: string;
  /** A connection of the test's own, for looking around. It is made anew after a restart. */
  readonly client: () => Redis;
  /** SIGKILL: connections break, nothing is said. */
  kill(): Promise<void>;
  /** On the same port as before, and empty. */
  start(): Promise<void>;
  signal(signal: NodeJS.Signals): void;
}

export interface RedisServerOptions {
  /** Further arguments, such as `--requirepass`. */
  readonly args?: readonly string[];
  /** Environment variables of the server's process, such as those for a wrong clock. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Debian's redis-server on loopback. It keeps nothing on disk. */
export async function startRedis({ args = [], env = {} }: RedisServerOptions = {}): Promise<RedisServer> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const port = await freePort();
  let running: RunningProcess | undefined;
  let client: Redis | undefined;
  const kill = async (): Promise<void> => {
    client?.disconnect();
    client = undefined;
    running?.kill('SIGKILL');
    await running?.exited;
    running = undefined;
  };
  cleanup.defer(kill);
  const start = async (): Promise<void> => {
    const fixed = ['--port', `${port}`, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    running = await startProcess(commandOf('redis-server'), [...fixed, '--dir', folder.path, ...args], {
      env,
    });
    const started = running;
    await untilReady(started, 'redis-server', (signal) => untilLogged(started, /Ready to accept/, signal));
  };
  await start();
  const owned = cleanup.move();
  return {
    addr: `127.0.0.1:${port}`,
    client: () => (client ??= new Redis(port, '127.0.0.1', { connectionName: 'test' })),
    kill,
    start,
    signal: (signal) => running?.kill(signal),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
