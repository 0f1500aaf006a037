import { parseDocument, visit, type Document, type ErrorCode } from 'yaml';

/**
 * A configuration as YAML has it, before it has types. Scalars stay text, since in this format the key decides what
 * `0123` or `yes` means (as when Go decodes into a typed field), not the way it is spelt.
 */
export type Tree = string | null | Tree[] | TreeMap;
export interface TreeMap {
  [key: string]: Tree;
}

export type Path = readonly (string | number)[];

export function isMap(tree: Tree | undefined): tree is TreeMap {
  return typeof tree === 'object' && tree !== null && !Array.isArray(tree);
}

/** What stands there; `undefined` where nothing does. */
export function at(tree: Tree | undefined, path: Path): Tree | undefined {
  let found = tree;
  for (const step of path) {
    if (Array.isArray(found) && typeof step === 'number') found = found[step];
    else if (isMap(found) && Object.hasOwn(found, step)) found = found[step];
    else return undefined;
  }
  return found;
}

/** `proxy.upstreams[1].host` */
export function formatPath(path: Path): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : index === 0 ? step : `.${step}`))
    .join('');
}

/** Without the entries that are null or empty: in this format they mean the same as no entry. */
export function prune(tree: Tree): Tree {
  if (Array.isArray(tree)) return tree.map(prune);
  if (!isMap(tree)) return tree;
  const entries = Object.entries(tree).filter(([, value]) => value !== null && value !== '');
  return Object.fromEntries(entries.map(([key, value]) => [key, prune(value)]));
}

export interface YamlFault {
  readonly line: number;
  readonly column: number;
  readonly problem: string;
}

export type ParsedYaml =
  { readonly tree: Tree; readonly faults?: undefined } | { readonly faults: readonly YamlFault[] };

/** What makes the structure; the tags that would turn text into numbers, booleans or dates are left out. */
const structural = new Set(['map', 'seq', 'str', 'null', 'merge'].map((name) => `tag:yaml.org,2002:${name}`));

/** Reads one YAML document. The faults never quote the text, which may hold a password. */
export function parseYaml(text: string): ParsedYaml {
  const document = parseDocument(text, {
    logLevel: 'error',
    merge: true,
    customTags: (tags) => tags.filter((tag) => typeof tag === 'string' || structural.has(tag.tag)),
  });
  if (document.errors.length > 0) {
    return {
      faults: document.errors.map(({ code, linePos }) => ({
        ...(linePos === undefined ? unplaced : { line: linePos[0].line, column: linePos[0].col }),
        problem: problems[code] ?? `not valid YAML (${code})`,
      })),
    };
  }
  if (containsItself(document))
    return { faults: [{ ...unplaced, problem: 'an alias inside its own anchor' }] };
  try {
    return { tree: unshared(document.toJS() as Tree) };
  } catch {
    // Nothing else can fail here, and the library's message would quote the text.
    return { faults: [{ ...unplaced, problem: 'an alias (*name) or a merge (<<) that leads nowhere' }] };
  }
}

/** Copies the value of each alias: a variable that changes a key must not change an alias in another place. */
function unshared(tree: Tree): Tree {
  if (Array.isArray(tree)) return tree.map(unshared);
  if (!isMap(tree)) return tree;
  return Object.fromEntries(Object.entries(tree).map(([key, value]) => [key, unshared(value)]));
}

function containsItself(document: Document): boolean {
  let found = false;
  visit(document, {
    Alias: (_, alias, ancestors) => {
      const target = alias.resolve(document);
      if (target === undefined || !ancestors.includes(target)) return undefined;
      found = true;
      return visit.BREAK;
    },
  });
  return found;
}

const unplaced = { line: 1, column: 1 };

const problems: Partial<Record<ErrorCode, string>> = {
  BAD_ALIAS: 'an alias (*name) that cannot be used; text that begins with * wants quotes',
  BAD_INDENT: 'indented differently from its neighbours',
  BAD_SCALAR_START: 'text that begins with a character that wants quotes around it',
  DUPLICATE_KEY: 'a key that is already there',
  MISSING_CHAR: 'a bracket, quote or comma is missing',
  MULTIPLE_DOCS: 'a second document; there must be one',
  TAB_AS_INDENT: 'a tab, where YAML wants spaces',
};
