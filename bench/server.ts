import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { jobNames } from '../src/scheduler/job.js';
import { commandOf } from '../test/parts/debian.js';
import { freePort } from '../test/parts/ports.js';

/** Cistern as it was built from some sources. */
export interface Build {
  /** Its main.js, whose first line says with which settings it wants to be run. */
  readonly main: string;
  /** The Node that runs it. */
  readonly node: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Runs while it still answers. */
  beforeStop?(server: Server): Promise<void>;
}

/** Of this checkout, on the Node that runs this. */
export const thisBuild: Build = {
  main: fileURLToPath(new URL('../dist/main.js', import.meta.url)),
  node: process.execPath,
};

/** A machine that is kept busy by others takes long. */
const startingMs = 60_000;
const endingMs = 20_000;

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

/** What is started: the real registry, or a built Cistern (`cistern`: this checkout's). */
export type Program = 'docker-registry' | 'cistern' | Build;

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
    readonly freshness?: string;
    /** Cistern's. */
    readonly ranges?: { readonly connections: number };
    readonly spool?: { readonly directory: string };
  };
  /** Where content is kept instead of in the folder. */
  readonly storage?: { readonly s3: unknown; readonly redirect: unknown };
  /** Deletes, by jobs that run when they are asked for alone. Cistern's. */
  readonly deletes?: { readonly grace: string };
  /** Shares descriptors through it. Cistern's. */
  readonly redis?: string;
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
  const sharing = options.redis === undefined ? {} : await sharingBy(options.redis);
  await writeFile(configFile, stringify({ ...settings(options, root, port, debugPort), ...sharing }));
  const build = program === 'cistern' ? thisBuild : program;
  const { command, env } = await commandOfProgram(build);
  await using log = await open(logFile, 'w');
  const [file, ...args] = command;
  const child = spawn(file, [...args, 'serve', configFile], {
    cwd: folder,
    env, // nothing of whoever measures: both programs take settings from the environment
    stdio: ['ignore', log.fd, log.fd],
  });
  const exited = once(child, 'exit');
  exited.catch(() => {}); // told below, as what stands in the way of the start
  const stop = async (): Promise<void> => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGINT'); // Cistern then ends without waiting for load balancers
    const timer = setTimeout(() => child.kill('SIGKILL'), endingMs);
    await exited.finally(() => clearTimeout(timer));
  };
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(stop);
  const limit = AbortSignal.any([signal, AbortSignal.timeout(startingMs)]);
  while (!(await answers(url))) {
    if (limit.aborted || child.pid === undefined || child.exitCode !== null) {
      signal.throwIfAborted();
      throw new Error(`${file} did not start\n${(await readFile(logFile, 'utf8')).slice(-4000)}`);
    }
    await delay(20);
  }
  const owned = cleanup.move();
  const server: Server = {
    url,
    debugPort,
    pid: Number(child.pid),
    root,
    logFile,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  if (build !== 'docker-registry') owned.defer(async () => build.beforeStop?.(server));
  return server;
}

interface Command {
  readonly command: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string | undefined>>;
}

async function commandOfProgram(program: 'docker-registry' | Build): Promise<Command> {
  const path = process.env['PATH'];
  if (program === 'docker-registry') return { command: [commandOf('docker-registry')], env: { PATH: path } };
  const { main, node } = program;
  if (!existsSync(main)) throw new Error(`${main} is not there: npm run build`);
  // As the installed command starts it: with its own flags and settings of the C library.
  const asked = /^#!\/usr\/bin\/env -S (.+)/.exec(await readFile(main, 'utf8'))?.[1];
  return {
    command: asked === undefined ? [node, main] : ['/usr/bin/env', '-S', asked, main],
    env: { ...program.env, PATH: `${dirname(node)}${delimiter}${path}` },
  };
}

const onDemand = Object.fromEntries(jobNames.map((name) => [name, { schedule: 'never' }]));

/** The same for both but for folder and ports. */
function settings(options: ServerOptions, root: string, port: number, debugPort: number): object {
  const { proxy, storage, auth, deletes, redis, requestsLogged } = options;
  return {
    version: 0.1,
    log: {
      level: requestsLogged ? 'info' : 'error',
      formatter: 'json',
      accesslog: { disabled: !requestsLogged },
    },
    storage: {
      ...(storage ?? { filesystem: { rootdirectory: root } }),
      cache: { blobdescriptor: redis === undefined ? 'inmemory' : 'redis' },
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

async function sharingBy(redis: string): Promise<object> {
  return { redis: { addr: redis }, cluster: { addr: `127.0.0.1:${await freePort()}` } };
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
