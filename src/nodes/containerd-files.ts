import { parse, TomlError } from 'smol-toml';
import { hostTable, hostsToml, type ClientSetup } from './client-files.js';
import { NodeError } from './faults.js';

type Table = Readonly<Record<string, unknown>>;

/** @throws NodeError `unreadable` */
export function parseToml(text: string): Table {
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw new NodeError('unreadable', `it is not TOML: ${cause.message.split('\n', 1)[0]}`, { cause });
  }
}

/** The table at the end of a path of keys; empty where there is none. */
export function tableAt(root: unknown, ...keys: readonly string[]): Table {
  let at: unknown = root;
  for (const key of keys) at = isTable(at) ? at[key] : undefined;
  return isTable(at) ? at : {};
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The mirrors that a `hosts.toml` names, `server` among them. @throws NodeError `unreadable` */
export function mirrorsIn(hosts: string): readonly string[] {
  const table = parseToml(hosts);
  const server = typeof table['server'] === 'string' ? [table['server']] : [];
  return [...Object.keys(tableAt(table, 'host')), ...server].map((url) => url.replace(/\/$/, ''));
}

/**
 * A registry's `hosts.toml` with the mirror in front of the hosts that somebody has written there, or a new one.
 * What names the mirror already stays. @throws NodeError `unreadable`
 */
export function withMirror(existing: string | undefined, setup: ClientSetup): string {
  if (existing === undefined || existing.trim() === '') return hostsToml(setup);
  if (mirrorsIn(existing).includes(setup.mirror.url)) return existing;
  // Hosts are asked in the order of their tables, and keys after a table's head are that table's.
  const head = /^[ \t]*\[/m.exec(existing)?.index ?? existing.length;
  const before = existing.slice(0, head);
  const merged = `${before}${before === '' || before.endsWith('\n') ? '' : '\n'}${hostTable(setup)}\n${existing.slice(head)}`;
  if (!mirrorsIn(merged).includes(setup.mirror.url)) {
    throw new NodeError('unreadable', 'the mirror cannot be put in front of what is there');
  }
  return merged;
}

/** Where containerd 1.x (configuration version 2) and 2.x (version 3) have the registries of the CRI. */
const sections = [
  { version: 3, plugin: 'io.containerd.cri.v1.images' },
  { version: 2, plugin: 'io.containerd.grpc.v1.cri' },
] as const;

export interface CriRegistries {
  /** The folders of `config_path`; none: the CRI reads no `hosts.toml`. */
  readonly folders: readonly string[];
  /** What stops `config_path` from being set: the older way to name mirrors is in use. */
  readonly older: boolean;
  /** Whether this containerd serves no CRI at all: then only `nerdctl` and `ctr` read the folder. */
  readonly disabled: boolean;
}

/** What containerd's `config.toml` says of registries. @throws NodeError `unreadable` */
export function readCriRegistries(config: string): CriRegistries {
  const root = parseToml(config);
  const { plugin } = sectionOf(root);
  const registry = tableAt(root, 'plugins', plugin, 'registry');
  const path = registry['config_path'];
  const disabled = root['disabled_plugins'];
  return {
    folders: typeof path === 'string' ? path.split(':').filter((folder) => folder !== '') : [],
    older: 'mirrors' in registry || 'configs' in registry,
    disabled:
      Array.isArray(disabled) &&
      disabled.some((name) => name === 'cri' || name === plugin || name === 'io.containerd.grpc.v1.cri'),
  };
}

/** What has to stand there, for people. */
export function configPathText(config: string | undefined, folder: string): string {
  return `[${headOf(config === undefined ? {} : parseToml(config))}]\n  config_path = "${folder}"\n`;
}

/** The same put into the text of `config.toml`, which keeps everything else. @throws NodeError `unreadable` */
export function withConfigPath(config: string, folder: string): string {
  const root = parseToml(config);
  const { plugin } = sectionOf(root);
  const line = `  config_path = "${folder}"\n`;
  const table = new RegExp(
    `^[ \\t]*\\[plugins\\.["']${plugin.replaceAll('.', String.raw`\.`)}["']\\.registry\\][ \\t]*(?:#.*)?\\r?\\n`,
    'm',
  ).exec(config);
  const empty = /^[ \t]*config_path[ \t]*=[ \t]*(?:""|'')[ \t]*\r?\n/m;
  let changed: string;
  if (table === null) {
    changed = `${config}${config === '' || config.endsWith('\n') ? '' : '\n'}\n[${headOf(root)}]\n${line}`;
  } else {
    const after = table.index + table[0].length;
    const rest = config.slice(after);
    const next = /^[ \t]*\[/m.exec(rest)?.index ?? rest.length;
    changed = config.slice(0, after) + line + rest.slice(0, next).replace(empty, '') + rest.slice(next);
  }
  if (!readCriRegistries(changed).folders.includes(folder)) {
    throw new NodeError('unreadable', 'config_path cannot be put into it without changing what is there');
  }
  return changed;
}

function headOf(root: Table): string {
  return `plugins."${sectionOf(root).plugin}".registry`;
}

function sectionOf(root: Table): (typeof sections)[number] {
  return sections.find(({ version }) => root['version'] === version) ?? sections[1];
}
