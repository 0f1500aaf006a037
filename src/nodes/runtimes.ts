import { daemonJson, daemonLists, registriesConf, type ClientSetup } from './client-files.js';
import {
  configPathText,
  parseToml,
  readCriRegistries,
  withConfigPath,
  withMirror,
} from './containerd-files.js';
import { withListed } from './daemon-json.js';
import { NodeError } from './faults.js';
import type { NodeFiles } from './node-files.js';

export const runtimes = ['docker', 'containerd', 'crio', 'podman'] as const;
export type Runtime = (typeof runtimes)[number];

export const places = {
  daemonJson: '/etc/docker/daemon.json',
  dockerHosts: '/etc/docker/certs.d',
  containerdConfig: '/etc/containerd/config.toml',
  containerdHosts: '/etc/containerd/certs.d',
  registriesConf: '/etc/containers/registries.conf',
  registriesFolder: '/etc/containers/registries.conf.d',
  ownRegistries: '/etc/containers/registries.conf.d/50-cistern.conf',
  containersCertificates: '/etc/containers/certs.d',
} as const;

/** What tells that a runtime is on the node. */
const signs: Readonly<Record<Runtime, readonly string[]>> = {
  docker: ['/usr/bin/dockerd', '/usr/sbin/dockerd', '/usr/local/bin/dockerd', places.daemonJson],
  containerd: ['/usr/bin/containerd', '/usr/local/bin/containerd', places.containerdConfig],
  crio: ['/usr/bin/crio', '/usr/local/bin/crio', '/etc/crio'],
  podman: ['/usr/bin/podman', '/usr/local/bin/podman', '/usr/bin/skopeo', '/usr/bin/buildah'],
};

export async function runtimesOn(files: NodeFiles): Promise<Runtime[]> {
  const found = await Promise.all(runtimes.map((runtime) => files.hasOneOf(...signs[runtime])));
  return runtimes.filter((_, index) => found[index]);
}

/** What a node is to be like. */
export interface Wish extends ClientSetup {
  /** The hosts that images are named by. */
  readonly registries: readonly string[];
  /** PEM; the authority of the mirror's certificate. */
  readonly ca: Buffer | undefined;
  /** Whether containerd's own configuration may be changed too. */
  readonly setConfigPath: boolean;
}

export interface WantedFile {
  /** On the node. */
  readonly path: string;
  readonly bytes: Buffer;
  /** What makes its program read a change. `undefined`: it reads the file at each pull. */
  readonly reload?: string | undefined;
}

export interface Wanted {
  readonly files: readonly WantedFile[];
  /** What people should know or do. */
  readonly notes: readonly string[];
}

/** What the files of a runtime have to be. Reads, and changes nothing. @throws NodeError */
export function wantedFor(runtime: Runtime, wish: Wish, files: NodeFiles): Promise<Wanted> {
  if (runtime === 'docker') return wantedForDocker(wish, files);
  if (runtime === 'containerd') return wantedForContainerd(wish, files);
  return wantedForContainers(runtime, wish, files);
}

async function wantedForDocker(wish: Wish, files: NodeFiles): Promise<Wanted> {
  const existing = await files.text(places.daemonJson);
  const text =
    existing === undefined || existing.trim() === ''
      ? daemonJson(wish)
      : reading(places.daemonJson, () =>
          Object.entries(daemonLists(wish)).reduce(
            (changed, [key, value]) => withListed(changed, key, value),
            existing,
          ),
        );
  const hosts = await hostsFiles(places.dockerHosts, wish, files);
  const notes = [
    'dockerd mirrors Docker Hub alone, unless it keeps images in containerd (docker info: driver-type ' +
      'io.containerd.snapshotter.v1); others are pulled by the name of the mirror: ' +
      `${wish.mirror.host}/${wish.registries.find((each) => each !== 'docker.io') ?? 'ghcr.io'}/…`,
  ];
  if (!wish.fallback) notes.push('dockerd goes to Docker Hub after its mirrors, whatever is said here');
  const daemon = { path: places.daemonJson, bytes: Buffer.from(text), reload: 'systemctl reload docker' };
  return { files: [daemon, ...hosts.files], notes: [...notes, ...hosts.notes] };
}

async function wantedForContainerd(wish: Wish, files: NodeFiles): Promise<Wanted> {
  const config = await files.text(places.containerdConfig);
  const cri = reading(places.containerdConfig, () => readCriRegistries(config ?? ''));
  const folder = cri.folders[0] ?? places.containerdHosts;
  const hosts = await hostsFiles(folder, wish, files);
  if (cri.folders.length > 0 || cri.disabled) return hosts;
  if (cri.older) {
    const note = `${places.containerdConfig} names mirrors the older way, so ${folder} is not read: take these out first`;
    return { files: hosts.files, notes: [...hosts.notes, note] };
  }
  if (!wish.setConfigPath) {
    const note =
      `Kubernetes pulls through ${folder} only when ${places.containerdConfig} has this (--set-config-path puts it ` +
      `there; then systemctl restart containerd):\n${configPathText(config, folder)}`;
    return { files: hosts.files, notes: [...hosts.notes, note] };
  }
  const changed = reading(places.containerdConfig, () => withConfigPath(config ?? 'version = 2\n', folder));
  const file = {
    path: places.containerdConfig,
    bytes: Buffer.from(changed),
    reload: 'systemctl restart containerd',
  };
  return { files: [...hosts.files, file], notes: hosts.notes };
}

/** `hosts.toml` of each registry, and the authority beside them. */
async function hostsFiles(folder: string, wish: Wish, files: NodeFiles): Promise<Wanted> {
  const wanted: WantedFile[] = authority(folder, wish);
  const notes: string[] = [];
  for (const registry of wish.registries) {
    const path = `${folder}/${registry}/hosts.toml`;
    const existing = await files.text(path);
    const text = reading(path, () => withMirror(existing, wish));
    wanted.push({ path, bytes: Buffer.from(text) });
    if (!wish.fallback && !text.includes(`server = "${wish.mirror.url}"`)) {
      notes.push(`${path} is written by hand: what it has after the mirror stays`);
    }
  }
  return { files: wanted, notes };
}

/** podman, CRI-O and what else reads `registries.conf`. */
async function wantedForContainers(
  runtime: 'crio' | 'podman',
  wish: Wish,
  files: NodeFiles,
): Promise<Wanted> {
  const taken = await registriesByHand(files);
  const free = wish.registries.filter((registry) => !taken.has(registry));
  const notes = wish.registries.flatMap((registry) => {
    const place = taken.get(registry);
    if (place === undefined) return [];
    return [`${registry} is left as ${place} has it; its mirror would be ${wish.mirror.host}/${registry}`];
  });
  const file = {
    path: places.ownRegistries,
    bytes: Buffer.from(registriesConf(wish, free)),
    reload: runtime === 'crio' ? 'systemctl reload crio' : undefined,
  };
  return { files: [...authority(places.containersCertificates, wish), file], notes };
}

/** Of equal prefixes the last file counts, so what others say of a registry would be lost. By the registry: the file. */
async function registriesByHand(files: NodeFiles): Promise<ReadonlyMap<string, string>> {
  const names = await files.names(places.registriesFolder);
  const paths = [places.registriesConf, ...names.map((name) => `${places.registriesFolder}/${name}`)];
  const found = new Map<string, string>();
  for (const path of paths) {
    if (path === places.ownRegistries || !path.endsWith('.conf')) continue;
    const text = (await files.text(path)) ?? '';
    const { registry } = reading(path, () => parseToml(text));
    for (const { prefix, location } of Array.isArray(registry)
      ? (registry as Record<string, unknown>[])
      : []) {
      const name = prefix ?? location;
      if (typeof name === 'string') found.set(name, path);
    }
  }
  return found;
}

function authority(folder: string, { ca, mirror }: Wish): WantedFile[] {
  return ca === undefined ? [] : [{ path: `${folder}/${mirror.host}/ca.crt`, bytes: ca }];
}

/** With the file's name in what goes wrong. */
export function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof NodeError)) throw error;
    throw new NodeError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}
