import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CertificateFiles } from './certificates.js';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { unmountBelow } from './mounts.js';
import { type Output, runProcess, type RunningProcess, startProcess, until, untilReady } from './process.js';

const docker = '/usr/bin/docker';

export interface DockerdOptions {
  /** Of docker.io, in the order they are asked. */
  readonly mirrors?: readonly string[];
  readonly insecureRegistries?: readonly string[];
  /**
   * What is in its `certs.d` for registries, by their names. It reaches these by the proxy alone: no name leads
   * anywhere from here, and what is on loopback counts as insecure, where it takes no certificates. Needs unshare.
   */
  readonly registries?: {
    /** An http URL. */
    readonly proxy: string;
    readonly certificates: Readonly<Record<string, RegistryCertificates>>;
  };
  /** What becomes dockerd by running the command that follows. */
  readonly launcher?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface RegistryCertificates {
  /** A PEM file: whom to trust. */
  readonly ca: string;
  /** Who to be. */
  readonly client?: CertificateFiles;
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
  const { registries } = options;
  const launcher = registries === undefined ? options.launcher : await ownEtc(folder.path, registries);
  const [command = '', ...args] = [...(launcher ?? []), commandOf('dockerd')];
  // It finds its own helpers by PATH, which after `su` or in a small image has no folder of the system's commands.
  const helpers = { PATH: `${process.env['PATH']}:/usr/sbin:/sbin` };
  const env = { ...helpers, ...(registries && { HTTPS_PROXY: registries.proxy }), ...options.env };
  const running = cleanup.use(await startProcess(command, [...args, '--config-file', configFile], { env }));
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

/** The start of a command that runs with the certificates as its `/etc/docker`, and with an `/etc/hosts` of its own. */
async function ownEtc(
  folder: string,
  { certificates }: NonNullable<DockerdOptions['registries']>,
): Promise<string[]> {
  const [etc, hosts] = [join(folder, 'etc'), join(folder, 'hosts')];
  for (const [name, { ca, client }] of Object.entries(certificates)) {
    const place = join(etc, 'certs.d', name);
    await mkdir(place, { recursive: true });
    await copyFile(ca, join(place, 'ca.crt'));
    if (client === undefined) continue;
    await copyFile(client.certificate, join(place, 'client.cert'));
    await copyFile(client.key, join(place, 'client.key'));
  }
  // An address for documentation (RFC 5737): nobody is asked for the names, and nothing is at their address.
  const names = Object.keys(certificates).map((name) => name.replace(/:\d+$/, ''));
  await writeFile(hosts, `127.0.0.1 localhost\n192.0.2.1 ${names.join(' ')}\n`);
  const steps = [
    'mkdir -p /etc/docker',
    'mount --bind "$1" /etc/docker',
    'mount --bind "$2" /etc/hosts',
    'shift 2',
    'exec "$@"',
  ];
  return [commandOf('unshare'), '--mount', '/bin/sh', '-ec', steps.join('\n'), 'sh', etc, hosts];
}
