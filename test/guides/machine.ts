import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { parse, stringify } from 'yaml';
import { blobPath } from '../../src/storage/layout.js';
import { type CertificateFiles, makeCertificate } from '../parts/certificates.js';
import { cisternImage, cisternImageArchive } from '../parts/cistern-image.js';
import { commandOf } from '../parts/debian.js';
import { startDockerRegistry, writeHtpasswd } from '../parts/docker-registry.js';
import { type Dockerd, startDockerd } from '../parts/dockerd.js';
import { temporaryFolder } from '../parts/folder.js';
import { type Image } from '../parts/image.js';
import {
  type Output,
  type RunningProcess,
  startProcess,
  until,
  untilLogged,
  untilReady,
} from '../parts/process.js';
import { pushImage } from '../parts/push.js';
import { patience, patienceMs } from '../parts/patience.js';

const fixtures = fileURLToPath(new URL('./fixtures/', import.meta.url));
const configs = fileURLToPath(new URL('../compat/configs/', import.meta.url));

/** Public registries, as this machine has them. */
const addresses = {
  'registry-1.docker.io': '10.53.0.1',
  'ghcr.io': '10.53.0.2',
  'quay.io': '10.53.0.3',
} as const;

export type PublicHost = keyof typeof addresses;

const ownNames = ['localhost', 'mirror-host', 'mirror.example.com'];

/**
 * A machine as the guides have it: a network of its own, so that ports are the guides' own, an Engine that can publish
 * them, and public registries under their names, with certificates that it believes. Needs root.
 */
export interface Machine extends AsyncDisposable {
  readonly dockerd: Dockerd;
  readonly folder: string;
  /** Of the one that everything here believes. */
  readonly authority: CertificateFiles;
  /** A shell's command line, as typed on it in a folder. */
  shell(line: string, cwd?: string): Promise<Output>;
  /** The same, which must succeed; what it printed. */
  type(line: string, cwd?: string): Promise<string>;
  start(command: string, args: readonly string[]): Promise<RunningProcess>;
  /** A public registry with these images, by `repository:tag`. */
  startRegistry(host: PublicHost, images: Images, users?: Users): Promise<PublicRegistry>;
}

type Images = Readonly<Record<string, Image>>;
type Users = Readonly<Record<string, string>>;

export interface PublicRegistry extends RunningProcess {
  /** Where it stores. */
  readonly root: string;
}

export interface MachineOptions {
  /** Of docker.io, in the daemon's configuration. */
  readonly mirror: string;
}

export async function startMachine({ mirror }: MachineOptions): Promise<Machine> {
  const archive = await cisternImageArchive();
  await using cleanup = new AsyncDisposableStack();
  const { path: folder } = cleanup.use(await temporaryFolder());
  const authority = await makeCertificate(folder, 'authority');
  const hosts = join(folder, 'hosts');
  const lines = Object.entries(addresses).map(([name, address]) => `${address} ${name}\n`);
  await writeFile(hosts, `127.0.0.1 ${ownNames.join(' ')}\n${lines.join('')}`);
  const setUp = [
    `mount --bind ${hosts} /etc/hosts`,
    'ip link set lo up',
    ...Object.values(addresses).map((address) => `ip address add ${address}/32 dev lo`),
    'exec "$0" "$@"',
  ];
  const dockerd = cleanup.use(
    await startDockerd({
      mirrors: [mirror],
      launcher: ['/usr/bin/unshare', '--net', '--mount', '/bin/sh', '-ec', setUp.join('\n')],
      env: { SSL_CERT_FILE: authority.certificate },
    }),
  );
  // They would take their time to end in order.
  cleanup.defer(async () => {
    await dockerd.docker(['swarm', 'leave', '--force']);
    const { stdout } = await dockerd.docker(['ps', '--all', '--quiet']);
    await dockerd.docker(['rm', '--force', ...stdout.split('\n').filter((id) => id !== '')]);
  });
  await dockerd.docker(['load', '--input', archive]);
  const there = ['--target', `${dockerd.pid}`, '--net', '--mount', '--'];
  const shell = (line: string, cwd = folder): Promise<Output> =>
    dockerd.docker([...there, '/bin/sh', '-c', `cd ${cwd}\n${line}`], {
      client: '/usr/bin/nsenter',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', CURL_CA_BUNDLE: authority.certificate },
      timeoutMs: patienceMs,
    });
  const owned = cleanup.move();
  const start = async (command: string, args: readonly string[]) =>
    owned.use(await startProcess('/usr/bin/nsenter', [...there, command, ...args]));
  return {
    dockerd,
    folder,
    authority,
    shell,
    type: async (line, cwd) => {
      const { code, stdout, stderr } = await shell(line, cwd);
      if (code !== 0) throw new Error(`${line}\nended with ${code}\n${stdout}${stderr}`);
      return stdout.trim();
    },
    start,
    startRegistry: async (host, images, users) => {
      const root = join(folder, host);
      await fill(root, images);
      const config = await registryConfig({ host, root, folder, authority, ...(users && { users }) });
      const running = await start('/usr/bin/env', [
        '--unset=AWS_CA_BUNDLE',
        'OTEL_TRACES_EXPORTER=none',
        commandOf('docker-registry'),
        'serve',
        config,
      ]);
      await untilReady(running, host, (signal) => untilLogged(running, /listening on/, signal));
      return { ...running, root };
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function fill(root: string, images: Images): Promise<void> {
  await using registry = await startDockerRegistry({ root });
  for (const [name, image] of Object.entries(images)) {
    const [repository = '', tag = ''] = name.split(':');
    await pushImage({ url: registry.url, repository }, tag, image);
  }
}

async function registryConfig(options: {
  readonly host: PublicHost;
  readonly root: string;
  readonly folder: string;
  readonly authority: CertificateFiles;
  readonly users?: Users;
}): Promise<string> {
  const { host, root, folder, authority, users } = options;
  const { certificate, key } = await makeCertificate(folder, host, authority, [`DNS:${host}`]);
  const path = join(folder, `${host}.yml`);
  const auth = users && { htpasswd: { realm: host, path: await writeHtpasswd(users, folder) } };
  const config = {
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: false } },
    storage: { filesystem: { rootdirectory: root } },
    http: { addr: `${addresses[host]}:443`, secret: 'only-for-tests', tls: { certificate, key } },
    ...(auth && { auth }),
  };
  await writeFile(path, stringify(config));
  return path;
}

/** A configuration that people have, by its name in test/compat/configs. */
export async function publishedConfig(name: string): Promise<string> {
  return await readFile(join(configs, name), 'utf8');
}

interface ComposeService {
  readonly image?: string;
}

export interface ComposeFile {
  readonly version: string;
  readonly services: Readonly<Record<string, ComposeService>>;
}

/** A guide's file, by its name here, with the image's name changed and nothing else. */
export async function guideFile(name: string): Promise<string> {
  const text = await readFile(join(fixtures, name), 'utf8');
  return text.replaceAll('image: registry:2', `image: ${cisternImage}`);
}

/** What a container must be told on this machine: where public registries are, and whom to believe. */
export function onThisMachine(machine: Machine): {
  extra_hosts: string[];
  environment: Record<string, string>;
  volumes: string[];
} {
  return {
    extra_hosts: Object.entries(addresses).map(([name, address]) => `${name}:${address}`),
    environment: { NODE_EXTRA_CA_CERTS: '/authority.pem' },
    volumes: [`${machine.authority.certificate}:/authority.pem:ro`],
  };
}

/** The same for `docker run`. */
export function dockerOptionsOn(machine: Machine): string {
  const { extra_hosts, environment, volumes } = onThisMachine(machine);
  return [
    ...extra_hosts.map((host) => `--add-host ${host}`),
    ...Object.entries(environment).map(([name, value]) => `-e ${name}=${value}`),
    ...volumes.map((volume) => `-v ${volume}`),
  ].join(' ');
}

/** A folder with a guide's compose file and what lies beside it; docker-compose reads the override by itself. */
export async function composeFolder(
  machine: Machine,
  name: string,
  files: Readonly<Record<string, string>> = {},
  override: Readonly<Record<string, object>> = {},
): Promise<string> {
  const folder = join(machine.folder, basename(name, '.yml'));
  await mkdir(folder, { recursive: true });
  const text = await guideFile(name);
  const { version, services } = parse(text) as ComposeFile;
  const ours = Object.entries(services).filter(([, { image }]) => image === cisternImage);
  const adapted = Object.fromEntries(ours.map(([service]) => [service, onThisMachine(machine)]));
  const written = {
    'docker-compose.yml': text,
    'docker-compose.override.yml': stringify({ version, services: { ...adapted, ...override } }),
    ...files,
  };
  for (const [file, content] of Object.entries(written)) await writeFile(join(folder, file), content);
  return folder;
}

/** `docker pull` of an image that the Engine has, or has not any more; its last words. */
export async function pullAnew(machine: Machine, image: string): Promise<string> {
  await machine.shell(`docker rmi ${image}`);
  return await machine.type(`docker pull ${image} | grep ^Status`);
}

/** What {@link pullAnew} tells of content that came. */
export const downloaded = expect.stringContaining('Downloaded newer image') as string;

/** Until a mirror answers. */
export async function untilUp(machine: Machine, url: string): Promise<void> {
  await until(async () => (await machine.shell(`curl -sf ${url}/v2/`)).code === 0, patience());
}

/** Until the container's volume holds all of the image. */
export async function untilKept(machine: Machine, container: string, image: Image): Promise<void> {
  const contents = [image.manifest, image.config, ...image.layers];
  const files = contents.map(({ digest }) => join('/var/lib/registry', blobPath(digest)));
  const look = `docker exec ${container} ls ${files.join(' ')}`;
  await until(async () => (await machine.shell(look)).code === 0, patience());
}
