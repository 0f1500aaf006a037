import type { MirrorAddress } from './hosts.js';

/** What clients' files say of a mirror. Made by `configure-node`, and shown on the mirror's own page. */
export interface ClientSetup {
  readonly mirror: MirrorAddress;
  /** Whether the mirror's certificate is from an authority of one's own, which the clients have to be told. */
  readonly ownCa: boolean;
  /** Whether clients go to the registry itself where the mirror does not help. */
  readonly fallback: boolean;
}

const head = '# Written by cistern configure-node\n';
const capabilities = '["pull", "resolve"]';

/** The table of containerd's `hosts.toml` (containerd, docs/hosts.md) that names the mirror. */
export function hostTable({ mirror, ownCa }: ClientSetup): string {
  const ca = ownCa ? `  ca = "${caBeside(mirror)}"\n` : '';
  return `[host."${mirror.url}"]\n  capabilities = ${capabilities}\n${ca}`;
}

/**
 * `hosts.toml` of one registry, for containerd and for dockerd with the containerd image store. Without `server` the
 * registry itself comes after the mirror; with the mirror as `server` nobody does.
 */
export function hostsToml(setup: ClientSetup): string {
  if (setup.fallback) return `${head}\n${hostTable(setup)}`;
  const { mirror, ownCa } = setup;
  const ca = ownCa ? `ca = "${caBeside(mirror)}"\n` : '';
  return `${head}\nserver = "${mirror.url}"\ncapabilities = ${capabilities}\n${ca}`;
}

/** Relative to a registry's folder: containerd takes it from there. */
function caBeside({ host }: MirrorAddress): string {
  return `../${host}/ca.crt`;
}

/**
 * A file of `registries.conf.d` (containers-registries.conf(5)), for podman, CRI-O, buildah and skopeo. They do not
 * say which registry they mean, so it stands in the mirror's path.
 */
export function registriesConf({ mirror, fallback }: ClientSetup, registries: readonly string[]): string {
  const insecure = mirror.secure ? '' : 'insecure = true\n';
  const tables = registries.map((registry) => {
    const through = `location = "${mirror.host}/${registry}"\n${insecure}`;
    if (!fallback) return `[[registry]]\nprefix = "${registry}"\n${through}`;
    return `[[registry]]\nprefix = "${registry}"\nlocation = "${registry}"\n\n[[registry.mirror]]\n${through}`;
  });
  return [head, ...tables].join('\n');
}

/** What has to stand in dockerd's `daemon.json`; each is a list that may hold more. */
export function daemonLists({ mirror }: ClientSetup): Readonly<Record<string, string>> {
  return {
    'registry-mirrors': mirror.url,
    ...(mirror.secure ? {} : { 'insecure-registries': mirror.host }),
  };
}

/** The same for a node that has no such file yet. */
export function daemonJson(setup: ClientSetup): string {
  const lists = Object.entries(daemonLists(setup)).map(([key, value]) => [key, [value]] as const);
  return `${JSON.stringify(Object.fromEntries(lists), undefined, 2)}\n`;
}

/** k3s and RKE2: `registries.yaml`, from which they write containerd's files. */
export function k3sRegistries({ mirror, ownCa }: ClientSetup, registries: readonly string[]): string {
  const mirrors = registries.map((registry) => `  "${registry}":\n    endpoint: ["${mirror.url}"]\n`);
  const tls = `configs:\n  "${mirror.host}":\n    tls: {ca_file: /etc/rancher/k3s/mirror-ca.crt}\n`;
  return `mirrors:\n${mirrors.join('')}${ownCa ? tls : ''}`;
}

/** Talos: a patch of the machine configuration, for `talosctl patch machineconfig`. */
export function talosPatch({ mirror, ownCa }: ClientSetup, registries: readonly string[]): string {
  const mirrors = registries.map(
    (registry) => `      "${registry}":\n        endpoints: ["${mirror.url}"]\n`,
  );
  const config = `    config:\n      "${mirror.host}":\n        tls: {ca: "<the authority's PEM file in Base64>"}\n`;
  return `machine:\n  registries:\n    mirrors:\n${mirrors.join('')}${ownCa ? config : ''}`;
}
