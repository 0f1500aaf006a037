import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { jobNames } from '../src/scheduler/job.js';
import { commandOf } from '../test/parts/debian.js';
import { freePort } from '../test/parts/ports.js';

const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const patienceMs = 20_000;

export interface Server extends AsyncDisposable {
  readonly url: string;
  /** Where its debug server listens on loopback. */
  readonly debugPort: number;
  readonly pid: number;
  /** Its storage. */
  readonly root: string;
  /** What it wrote, access log included. */
  readonly logFile: string;
}

/** What is started: the real registry, or the built Cistern on the Node that runs this. */
export type Program = 'docker-registry' | 'cistern';

export interface ServerOptions {
  /** An empty folder for its configuration, log and, where `root` is not given, storage. */
  readonly folder: string;
  readonly root?: string;
  /** The upstream that it mirrors. */
  readonly proxy?: {
    readonly remoteurl: string;
    readonly username?: string;
    readonly password?: string;
    readonly maxsize?: number;
    readonly spool?: { readonly directory: string };
  };
  /** Where content is kept instead of in the folder. */
  readonly storage?: { readonly s3: unknown; readonly redirect: unknown };
  /** Deletes, by jobs that run when they are asked for alone. Cistern's. */
  readonly deletes?: { readonly grace: string };
  /** What it asks of its own clients. */
  readonly auth?: unknown;
  readonly requestsLogged: boolean;
}

/**
 * Starts one with the settings of production. Logs go to a file on the same disk: read through a pipe they would cost
 * the measuring process time.
 */
export async function startServer(
  program: Program,
  options: ServerOptions,
  signal: AbortSignal,
): Promise<Server> {
  const { folder, root = join(folder, 'root') } = options;
  await mkdir(folder, { recursive: true });
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const configFile = join(folder, 'config.yml');
  const logFile = join(folder, 'log');
  const debugPort = await freePort();
  await writeFile(configFile, stringify(settings(options, root, port, debugPort)));
  const [command, ...args] = commandLine(program);
  await using log = await open(logFile, 'w');
  const child = spawn(command, [...args, 'serve', configFile], {
    cwd: folder,
    // Nothing of whoever measures: both programs take settings from the environment. The C library's are npm start's.
    env: { PATH: process.env['PATH'], MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072' },
    stdio: ['ignore', log.fd, log.fd],
  });
  const exited = once(child, 'exit');
  exited.catch(() => {}); // told below, as what stands in the way of the start
  const stop = async (): Promise<void> => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGINT'); // Cistern then ends without waiting for load balancers
    const timer = setTimeout(() => child.kill('SIGKILL'), patienceMs);
    await exited.finally(() => clearTimeout(timer));
  };
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(stop);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(patienceMs)]);
  while (!(await answers(url))) {
    if (limit.aborted || child.pid === undefined || child.exitCode !== null) {
      signal.throwIfAborted();
      throw new Error(`${program} did not start\n${(await readFile(logFile, 'utf8')).slice(-4000)}`);
    }
    await delay(20);
  }
  const owned = cleanup.move();
  const pid = Number(child.pid);
  return { url, debugPort, pid, root, logFile, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function commandLine(program: Program): [string, ...string[]] {
  if (program === 'docker-registry') return [commandOf('docker-registry')];
  if (!existsSync(main)) throw new Error('dist/main.js is not there: npm run build');
  return [process.execPath, '--max-semi-space-size=2', '--max-old-space-size=384', main]; // as npm start does
}

const onDemand = Object.fromEntries(jobNames.map((name) => [name, { schedule: 'never' }]));

/** The same for both but for folder and ports. */
function settings(options: ServerOptions, root: string, port: number, debugPort: number): unknown {
  const { proxy, storage, auth, deletes, requestsLogged } = options;
  return {
    version: 0.1,
    log: {
      level: requestsLogged ? 'info' : 'error',
      formatter: 'json',
      accesslog: { disabled: !requestsLogged },
    },
    storage: {
      ...(storage ?? { filesystem: { rootdirectory: root } }),
      cache: { blobdescriptor: 'inmemory' },
      ...(deletes === undefined ? {} : { delete: { enabled: true } }),
    },
    http: {
      addr: `127.0.0.1:${port}`,
      secret: 'benchmark',
      debug: { addr: `127.0.0.1:${debugPort}`, prometheus: { enabled: true, path: '/metrics' } },
    },
    ...(proxy === undefined ? {} : { proxy }),
    ...(auth === undefined ? {} : { auth }),
    ...(deletes === undefined ? {} : { scheduler: { ...deletes, ...onDemand } }),
  };
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/v2/`);
    await response.arrayBuffer();
    return response.ok || response.status === 401;
  } catch {
    return false; // nobody listens yet
  }
}
