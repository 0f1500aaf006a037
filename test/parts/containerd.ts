import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CertificateFiles } from './certificates.js';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { unmountBelow } from './mounts.js';
import { type Output, runProcess, type RunningProcess, startProcess, until, untilReady } from './process.js';

const ctr = '/usr/bin/ctr';

export interface ContainerdHost {
  readonly url: string;
  /** Default: pull and resolve. */
  readonly capabilities?: readonly string[];
  readonly overridePath?: boolean;
  /** A PEM file: whom to trust. */
  readonly ca?: string;
  /** Who to be. */
  readonly client?: CertificateFiles;
}

/** By registry (`docker.io`, `ghcr.io`, `_default`): mirrors in the order they are asked, then the server. */
export type ContainerdHosts = Readonly<
  Record<string, { readonly server?: string; readonly mirrors: readonly ContainerdHost[] }>
>;

export interface ContainerdOptions {
  readonly hosts?: ContainerdHosts;
}

export interface ContainerdPull {
  /** `name:password` */
  readonly user?: string;
  /** Instead of those that it began with. */
  readonly hosts?: ContainerdHosts;
}

export interface Containerd extends RunningProcess {
  /** `ctr images pull` of a whole reference (`docker.io/library/app:v1`). */
  pull(reference: string, options?: ContainerdPull): Promise<Output>;
  /** Forgets an image and its content. */
  remove(reference: string): Promise<Output>;
  /** Any `ctr` command. */
  ctr(args: readonly string[]): Promise<Output>;
}

/** A containerd of one's own: root, state and socket apart from the machine's. Needs root. */
export async function startContainerd(options: ContainerdOptions = {}): Promise<Containerd> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  cleanup.defer(() => unmountBelow(folder.path));
  const socket = join(folder.path, 'containerd.sock');
  const configFile = join(folder.path, 'config.toml');
  const hostsFolder = join(folder.path, 'certs.d');
  await writeFile(configFile, configFor(folder.path, socket));
  await writeHosts(hostsFolder, options.hosts ?? {});
  const running = cleanup.use(await startProcess(commandOf('containerd'), ['--config', configFile]));
  const run = (args: readonly string[]) => runProcess(ctr, ['--address', socket, ...args]);
  await untilReady(running, 'containerd', (signal) =>
    until(async () => (await run(['version'])).code === 0, signal),
  );
  const owned = cleanup.move();
  return {
    ...running,
    ctr: run,
    pull: async (reference, { user, hosts } = {}) => {
      await using own = await temporaryFolder();
      if (hosts !== undefined) await writeHosts(own.path, hosts);
      // The native snapshotter copies: it works on any file system, an overlay included.
      const args = ['--hosts-dir', hosts === undefined ? hostsFolder : own.path, '--snapshotter', 'native'];
      const login = user === undefined ? [] : ['--user', user];
      return await run(['images', 'pull', ...args, ...login, reference]);
    },
    remove: (reference) => run(['images', 'rm', '--sync', reference]),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function configFor(folder: string, socket: string): string {
  return `version = 2
root = "${join(folder, 'root')}"
state = "${join(folder, 'state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "${socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${join(folder, 'opt')}"
`;
}

async function writeHosts(folder: string, hosts: ContainerdHosts): Promise<void> {
  for (const [registry, { server, mirrors }] of Object.entries(hosts)) {
    const text = [
      ...(server === undefined ? [] : [`server = "${server}"`]),
      ...mirrors.flatMap(({ url, capabilities = ['pull', 'resolve'], overridePath = false, ca, client }) => [
        `[host."${url}"]`,
        `  capabilities = ${JSON.stringify(capabilities)}`,
        `  override_path = ${overridePath}`,
        ...(ca === undefined ? [] : [`  ca = "${ca}"`]),
        ...(client === undefined ? [] : [`  client = [["${client.certificate}", "${client.key}"]]`]),
      ]),
    ].join('\n');
    await mkdir(join(folder, registry), { recursive: true });
    await writeFile(join(folder, registry, 'hosts.toml'), `${text}\n`);
  }
}
