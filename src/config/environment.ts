import type { ConfigFault, ConfigNote } from './faults.js';
import { guardsIn, isEmpty } from './guards.js';
import { factsAt, factsOf, keysOf, type Facts, type SectionFacts } from './key.js';
import { unfold } from './legacy.js';
import { nearest } from './nearest.js';
import { at, formatPath, isMap, parseYaml, type Path, type Tree, type TreeMap } from './tree.js';

const prefix = 'REGISTRY_';
/** Where the file is: not an override. */
export const pathVariable = 'REGISTRY_CONFIGURATION_PATH';

export interface Overrides {
  /** The variable that set a key. */
  readonly origins: ReadonlyMap<string, string>;
  readonly faults: readonly ConfigFault[];
  readonly notes: readonly ConfigNote[];
}

/**
 * Puts the values of `REGISTRY_*` variables into the tree, in place, as Distribution does (configuration/parser.go):
 * the name is the path in upper case, joined by `_`; the value is YAML; applied in the order of the names, so that a
 * section comes before its keys. A number in the path is the index of a list, at most one beyond its end.
 */
export function applyEnvironment(tree: TreeMap, root: SectionFacts, env: NodeJS.ProcessEnv): Overrides {
  const origins = new Map<string, string>();
  const faults: ConfigFault[] = [];
  const notes: ConfigNote[] = [];
  const injected: string[] = [];
  for (const name of Object.keys(env).sort()) {
    const value = env[name];
    if (!name.startsWith(prefix) || name === pathVariable || value === undefined) continue;
    if (isInjected(name, value)) {
      injected.push(name);
      continue;
    }
    unfold(tree);
    const target = resolve(root, name.slice(prefix.length).split('_'), tree);
    if (target === undefined) {
      notes.push({ key: name, message: unknownVariable(name, root) });
      continue;
    }
    const key = formatPath(target.path);
    origins.set(key, name);
    const parsed = isSecret(root, target.path) ? { tree: literal(value) } : parseYaml(value);
    if (parsed.faults !== undefined) {
      const got = `text that is not YAML (${parsed.faults[0]?.problem})`;
      faults.push({ key, env: name, got, wanted: 'a YAML value; put quotes around plain text' });
      continue;
    }
    const lost = guardsRemoved(root, tree, target.path, parsed.tree);
    if (lost.length > 0) {
      const wanted = `a value: an empty variable would remove ${lost.join(', ')}`;
      faults.push({ key, env: name, got: 'nothing', wanted });
    } else if (!put(tree, target.path, target.within ? {} : parsed.tree)) {
      faults.push({
        key,
        env: name,
        got: 'an index beyond the end of the list',
        wanted: 'the next one at most',
      });
    }
  }
  unfold(tree);
  const [first, ...others] = injected;
  if (first !== undefined) notes.push({ key: first, message: injectedVariables(others.length) });
  return { origins, faults, notes };
}

function isSecret(root: SectionFacts, path: Path): boolean {
  const facts = factsAt(root, path);
  return facts?.form === 'value' && facts.value.secret === true;
}

/** One quoted scalar of YAML, from the first character to the last. */
const wholeQuote = /^(?:"(?:[^"\\]|\\[^])*"|'(?:[^']|'')*')$/;

/**
 * The secret, taken literally: YAML would cut it at ` #` and give a meaning to `*`, `!` and `: `. Only quotes around
 * the whole value are read as YAML, because with registry they are the only way to write such a secret. One newline at
 * the end is not part of the secret, as in a file.
 */
function literal(value: string): string {
  const text = value.replace(/\r?\n$/, '');
  if (wholeQuote.test(text)) {
    const { tree } = parseYaml(text) as { tree?: Tree };
    if (typeof tree === 'string') return tree;
  }
  return text.trim() === '' ? '' : text;
}

/** The guards in the file that an empty variable would remove together with their section. */
function guardsRemoved(root: SectionFacts, tree: TreeMap, path: Path, given: Tree): string[] {
  const facts = factsAt(root, path);
  if (facts === undefined || facts.guard !== undefined || !isEmpty(given)) return [];
  return guardsIn(facts, at(tree, path), path);
}

/**
 * What Kubernetes sets in every container for a service of that name (and docker for a link): a service named
 * "registry-http" gives REGISTRY_HTTP_PORT=tcp://…, which must not be taken for a key.
 */
function isInjected(name: string, value: string): boolean {
  return (
    /_SERVICE_HOST$|_SERVICE_PORT(?:_[A-Z0-9_]+)?$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/.test(
      name,
    ) ||
    (name.endsWith('_PORT') && /^(?:tcp|udp|sctp):\/\//.test(value))
  );
}

function injectedVariables(others: number): string {
  const more = others === 0 ? 'is' : `and ${others} more are`;
  return `${more} what Kubernetes sets for a service of that name, and not taken for configuration`;
}

function unknownVariable(name: string, root: SectionFacts): string {
  const names = Array.from(keysOf(root), ({ variable }) => variable);
  return `is not the name of a key, and has no effect; the nearest is ${nearest(name, names)}`;
}

interface Target {
  readonly path: Path;
  /** The variable names something inside a key that is not looked into. */
  readonly within: boolean;
}

function resolve(facts: Facts, parts: readonly string[], tree: Tree | undefined): Target | undefined {
  const [part, ...rest] = parts;
  if (part === undefined) return { path: [], within: false };
  const step = (key: string | number, child: Facts | undefined): Target | undefined => {
    const target = child === undefined ? leaf(rest) : resolve(child, rest, at(tree, [key]));
    return target && { path: [key, ...target.path], within: target.within };
  };
  switch (facts.form) {
    case 'section': {
      for (const [key, schema] of Object.entries(facts.children)) {
        const child = factsOf(schema);
        if (key.toUpperCase() === part || child.env === part) return step(key, child);
      }
      return facts.unknown === 'refusal' ? { path: [part.toLowerCase()], within: true } : undefined;
    }
    case 'entries':
      return isIndex(part) ? step(Number(part), facts.entry) : undefined;
    case 'headers':
      return step(nameIn(tree, part), undefined);
    case 'value':
      if (facts.many === 'map' || facts.many === 'lists') return step(nameIn(tree, part), undefined);
      return facts.many === 'list' && isIndex(part) ? step(Number(part), undefined) : undefined;
    case 'ignored':
    case 'refused':
      return { path: [], within: true };
  }
}

function leaf(rest: readonly string[]): Target | undefined {
  return rest.length === 0 ? { path: [], within: false } : undefined;
}

function isIndex(part: string): boolean {
  return /^\d{1,4}$/.test(part);
}

/** The name that is there already, in whatever case, or the one to make. */
function nameIn(tree: Tree | undefined, part: string): string {
  const names = isMap(tree) ? Object.keys(tree) : [];
  return names.find((name) => name.toUpperCase() === part.toUpperCase()) ?? part.toLowerCase();
}

/** False where the path goes beyond the end of a list. What stands in the way with a wrong type is left to be reported. */
function put(tree: TreeMap, path: Path, value: Tree): boolean {
  let place: Tree[] | TreeMap = tree;
  for (const [depth, step] of path.entries()) {
    const next = path[depth + 1];
    if (Array.isArray(place) && (typeof step !== 'number' || step > place.length)) return false;
    const inside = at(place, [step]);
    const made = next === undefined ? value : (inside ?? (typeof next === 'number' ? [] : {}));
    if (inside !== made) Object.assign(place, { [step]: made });
    if (typeof made === 'string' || made === null) return true;
    place = made;
  }
  return true;
}
