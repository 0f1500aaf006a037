import { mirrorsIn, parseToml, readCriRegistries } from './containerd-files.js';
import { NodeError } from './faults.js';
import { parseMirror, type MirrorAddress } from './hosts.js';
import type { NodeFiles } from './node-files.js';
import { places, reading, type Runtime } from './runtimes.js';

/** What the files of a runtime say now. */
export interface NodeSetup {
  /** The hosts whose images are pulled through the mirror; `_default` for all that have no file of their own. */
  readonly through: readonly string[];
  /** Whether images of this host are. */
  covers(registry: string): boolean;
  /** What stands in the way of all of them. */
  readonly obstacles: readonly { readonly message: string; readonly advice: string }[];
}

/** @throws NodeError `unreadable` */
export async function setupOf(runtime: Runtime, mirror: MirrorAddress, files: NodeFiles): Promise<NodeSetup> {
  switch (runtime) {
    case 'docker':
      return setup((await dockerMirrors(files)).includes(mirror.url) ? ['docker.io'] : []);
    case 'containerd':
      return containerdSetup(mirror, files);
    default: {
      const inside = `${mirror.host}/`;
      const found = [...(await mirrorLocations(files))];
      const through = found.filter(([, locations]) =>
        locations.some(({ location }) => location.startsWith(inside)),
      );
      return setup(through.map(([registry]) => registry));
    }
  }
}

function setup(through: readonly string[]): NodeSetup {
  return { through, covers: (registry) => through.includes(registry), obstacles: [] };
}

/** Every mirror that a file of the node names, those that are asked first before others. Unreadable files name none. */
export async function mirrorsNamed(files: NodeFiles): Promise<MirrorAddress[]> {
  const named = [
    ...(await ignoringUnreadable(dockerMirrors(files))),
    ...(await ignoringUnreadable(containerdMirrors(files))),
    ...(await ignoringUnreadable(podmanMirrors(files))),
  ];
  const unique = [...new Set(named)];
  return unique.map((url) => parseMirror(url)).filter((mirror) => mirror !== undefined);
}

/** Whoever needs the file is told by its own check. */
async function ignoringUnreadable(named: Promise<readonly string[]>): Promise<readonly string[]> {
  try {
    return await named;
  } catch (error) {
    if (error instanceof NodeError) return [];
    throw error;
  }
}

async function dockerMirrors(files: NodeFiles): Promise<string[]> {
  const text = await files.text(places.daemonJson);
  if (text === undefined || text.trim() === '') return [];
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new NodeError('unreadable', `${places.daemonJson}: it is not JSON`, { cause });
  }
  const mirrors =
    typeof parsed === 'object' && parsed !== null && 'registry-mirrors' in parsed
      ? parsed['registry-mirrors']
      : [];
  return Array.isArray(mirrors)
    ? mirrors.filter((each) => typeof each === 'string').map((url) => url.replace(/\/$/, ''))
    : [];
}

async function containerdSetup(mirror: MirrorAddress, files: NodeFiles): Promise<NodeSetup> {
  const cri = await criRegistries(files);
  const folder = cri.folders[0] ?? places.containerdHosts;
  const through: string[] = [];
  const own = new Set<string>();
  for (const registry of await files.names(folder)) {
    const path = `${folder}/${registry}/hosts.toml`;
    const text = await files.text(path);
    if (text === undefined) continue;
    own.add(registry);
    if (reading(path, () => mirrorsIn(text)).includes(mirror.url)) through.push(registry);
  }
  const read = cri.folders.length > 0 || cri.disabled;
  return {
    through,
    covers: (registry) => through.includes(registry) || (through.includes('_default') && !own.has(registry)),
    obstacles: read
      ? []
      : [
          {
            message: `Kubernetes does not read ${folder}: ${places.containerdConfig} has no config_path`,
            advice: 'cistern configure-node --set-config-path, then systemctl restart containerd',
          },
        ],
  };
}

async function criRegistries(files: NodeFiles): Promise<ReturnType<typeof readCriRegistries>> {
  const config = (await files.text(places.containerdConfig)) ?? '';
  return reading(places.containerdConfig, () => readCriRegistries(config));
}

async function containerdMirrors(files: NodeFiles): Promise<string[]> {
  const { folders } = await criRegistries(files);
  const folder = folders[0] ?? places.containerdHosts;
  const named: string[] = [];
  for (const registry of await files.names(folder)) {
    const path = `${folder}/${registry}/hosts.toml`;
    const text = await files.text(path);
    if (text !== undefined) named.push(...reading(path, () => mirrorsIn(text)).slice(0, 1));
  }
  return named;
}

async function podmanMirrors(files: NodeFiles): Promise<string[]> {
  const places = [...(await mirrorLocations(files)).values()].flat();
  return places.map(
    ({ location, insecure }) => `${insecure ? 'http' : 'https'}://${location.split('/', 1)[0]}`,
  );
}

interface Location {
  /** `mirror.example.com/ghcr.io` */
  readonly location: string;
  /** It may be plain http. */
  readonly insecure: boolean;
}

/** By the registry: where its images are looked for, mirrors first. Of equal prefixes the last file counts. */
async function mirrorLocations(files: NodeFiles): Promise<ReadonlyMap<string, readonly Location[]>> {
  const names = (await files.names(places.registriesFolder)).filter((name) => name.endsWith('.conf'));
  const found = new Map<string, readonly Location[]>();
  for (const path of [places.registriesConf, ...names.map((name) => `${places.registriesFolder}/${name}`)]) {
    const text = (await files.text(path)) ?? '';
    for (const table of tablesOf(reading(path, () => parseToml(text))['registry'])) {
      const name = table['prefix'] ?? table['location'];
      if (typeof name === 'string')
        found.set(name, [...tablesOf(table['mirror']), table].flatMap(locationOf));
    }
  }
  return found;
}

function locationOf({ location, insecure }: Readonly<Record<string, unknown>>): Location[] {
  return typeof location === 'string' ? [{ location, insecure: insecure === true }] : [];
}

function tablesOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? (value as Readonly<Record<string, unknown>>[]) : [];
}
