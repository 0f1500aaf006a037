import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { unmountBelow } from './mounts.js';
import { type Output, runProcess, type RunningProcess, startProcess, until, untilReady } from './process.js';

const docker = '/usr/bin/docker';

export interface DockerdOptions {
  /** Of docker.io, in the order they are asked. */
  readonly mirrors?: readonly string[];
  readonly insecureRegistries?: readonly string[];
  /** What becomes dockerd by running the command that follows. */
  readonly launcher?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface DockerOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly timeoutMs?: number;
  /** Another client than Debian's. */
  readonly client?: string;
}

export interface Dockerd extends RunningProcess {
  /** The path of its API's socket. */
  readonly socket: string;
  /** Any `docker` command against this daemon. */
  docker(args: readonly string[], options?: DockerOptions): Promise<Output>;
}

/** A Docker Engine of one's own: no bridge, no firewall rules, nothing but a socket in its folder. Needs root. */
export async function startDockerd(options: DockerdOptions = {}): Promise<Dockerd> {
  try {
    return await startWith('overlay2', options);
  } catch (error) {
    // Overlay does not lie on every file system.
    if (!(error instanceof Error) || !/storage-driver|graphdriver|overlay/i.test(error.message)) throw error;
    return startWith('vfs', options);
  }
}

async function startWith(storageDriver: 'overlay2' | 'vfs', options: DockerdOptions): Promise<Dockerd> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  cleanup.defer(() => unmountBelow(folder.path));
  const path = join(folder.path, 'docker.sock');
  const socket = `unix://${path}`;
  const configFile = join(folder.path, 'daemon.json');
  const settings = {
    hosts: [socket],
    'data-root': join(folder.path, 'data'),
    'exec-root': join(folder.path, 'exec'),
    pidfile: join(folder.path, 'dockerd.pid'),
    bridge: 'none',
    iptables: false,
    ip6tables: false,
    'storage-driver': storageDriver,
    'registry-mirrors': options.mirrors ?? [],
    'insecure-registries': options.insecureRegistries ?? [],
  };
  await writeFile(configFile, JSON.stringify(settings));
  const [command = '', ...args] = [...(options.launcher ?? []), commandOf('dockerd')];
  const running = cleanup.use(
    await startProcess(command, [...args, '--config-file', configFile], { env: options.env ?? {} }),
  );
  const run = (args: readonly string[], { client = docker, env, ...options }: DockerOptions = {}) =>
    runProcess(client, args, {
      ...options,
      env: { ...env, DOCKER_HOST: socket, DOCKER_CONFIG: folder.path, DOCKER_CONTEXT: undefined },
    });
  await untilReady(running, 'dockerd', (signal) =>
    until(async () => (await run(['version'])).code === 0, signal),
  );
  const owned = cleanup.move();
  return { ...running, socket: path, docker: run, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
