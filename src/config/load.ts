import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Config } from './config.js';
import { applyEnvironment, pathVariable } from './environment.js';
import { ConfigError, type ConfigFault, type ConfigNote } from './faults.js';
import { explainFileError, inspect } from './inspect.js';
import { checkGuards } from './guards.js';
import { factsAt } from './key.js';
import { normalise } from './normalise.js';
import { checkRules, noteRules } from './rules.js';
import { root, schema } from './schema.js';
import { at, formatPath, isMap, parseYaml, prune, type Path, type Tree, type TreeMap } from './tree.js';

export interface LoadedConfig {
  readonly config: Config;
  readonly warnings: readonly ConfigNote[];
  /** The path of the file. */
  readonly source: string;
}

export interface LoadOptions {
  /** The file; without it the variable REGISTRY_CONFIGURATION_PATH, then the usual places. */
  readonly path?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** What relative paths are relative to. */
  readonly cwd: string;
  /** Where a file is looked for that nobody names; the first that is there. */
  readonly places?: readonly string[];
}

const usualPlaces: readonly string[] = [
  '/etc/docker/registry/config.yml',
  '/etc/distribution/config.yml',
  fileURLToPath(new URL('../../deploy/config/default.yml', import.meta.url)),
];

/**
 * Reads the file and the environment, once, at the start.
 * @throws ConfigError with every fault that there is.
 */
export function loadConfig({ path, env, cwd, places = usualPlaces }: LoadOptions): LoadedConfig {
  const named = path ?? (env[pathVariable] || undefined);
  const { source, text } = readFirst(named === undefined ? places : [resolve(cwd, named)]);
  const written = parseFile(source, text);
  const { origins, faults, notes } = applyEnvironment(written, root, env);
  const empty = checkGuards(written, root);
  const reported = new Set(empty.map(({ key }) => key));
  const tree = prune(written) as TreeMap;
  const findings = inspect(tree, root, cwd);
  const parsed = schema.safeParse(tree);
  const found = [
    ...faults,
    ...empty,
    ...[
      ...findings.faults,
      ...(parsed.error?.issues ?? []).map(({ path, message }) => valueFault(tree, path as Path, message)),
      ...checkRules(tree),
    ].filter(({ key }) => !reported.has(key)),
  ];
  if (parsed.data === undefined || found.length > 0) {
    throw new ConfigError(
      source,
      found.map((fault) => ({ env: originOf(fault.key, origins), ...fault })),
    );
  }
  const warnings = [...notes, ...findings.notes, ...noteRules(tree)];
  return { config: normalise(parsed.data, cwd, env['POD_IP'] || undefined), warnings, source };
}

function readFirst(places: readonly string[]): { source: string; text: string } {
  for (const [index, source] of places.entries()) {
    try {
      return { source, text: readFileSync(source, 'utf8') };
    } catch (error) {
      const absent =
        error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
      if (absent && index < places.length - 1) continue;
      const got = `${source}, ${explainFileError(error)}`;
      throw new ConfigError(source, [{ key: 'configuration file', got, wanted: 'a readable file' }]);
    }
  }
  throw new ConfigError('(none)', [{ key: 'configuration file', got: 'nothing', wanted: 'a readable file' }]);
}

function parseFile(source: string, text: string): TreeMap {
  const parsed = parseYaml(text);
  if (parsed.faults !== undefined) {
    throw new ConfigError(
      source,
      parsed.faults.map(({ line, column, problem }) => ({
        key: `line ${line}, column ${column}`,
        got: problem,
        wanted: 'YAML',
      })),
    );
  }
  if (isMap(parsed.tree)) return parsed.tree;
  const got = parsed.tree === null ? 'an empty file' : 'something else';
  throw new ConfigError(source, [
    { key: 'configuration file', got, wanted: 'a map of keys, such as version: 0.1' },
  ]);
}

function valueFault(tree: Tree, path: Path, wanted: string): ConfigFault {
  const facts = factsAt(root, path);
  const secret = facts?.form === 'headers' || (facts?.form === 'value' && facts.value.secret === true);
  return { key: formatPath(path), got: describe(at(tree, path), secret || facts?.form !== 'value'), wanted };
}

/** For an error: text is shown only where it is a value that may be seen, and not a URL with credentials or a query. */
function describe(value: Tree | undefined, hide: boolean): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (isMap(value)) return 'a map';
  if (hide || /\/\/.*@|\?/.test(value)) return '(hidden)';
  return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
}

/** The variable that set a key, or the section that it is in. */
function originOf(key: string, origins: ReadonlyMap<string, string>): string | undefined {
  let longest: string | undefined;
  for (const name of origins.keys()) {
    const holds = key === name || key.startsWith(`${name}.`) || key.startsWith(`${name}[`);
    if (holds && name.length > (longest?.length ?? -1)) longest = name;
  }
  return longest === undefined ? undefined : origins.get(longest);
}
