import type { ConfigFault } from './faults.js';
import { factsOf, type Facts, type SectionFacts } from './key.js';
import { formatPath, isMap, prune, type Path, type Tree } from './tree.js';

/**
 * Finds guards (security settings) that are present and empty. Any other empty key counts as absent. An empty guard
 * would protect nothing, which the operator who wrote the key did not intend.
 */
export function checkGuards(tree: Tree, root: SectionFacts): ConfigFault[] {
  const faults: ConfigFault[] = [];
  visitKeys(root, tree, [], (path, facts, value) => {
    if (facts.guard === undefined) return;
    for (const place of emptyPlaces(facts, value, path)) {
      faults.push({ key: formatPath(place), got: 'nothing', wanted: wantedOf(facts) });
    }
  });
  return faults;
}

/** The paths of the guards that a part of the configuration contains. */
export function guardsIn(facts: Facts, tree: Tree | undefined, path: Path): string[] {
  const found: string[] = [];
  visitKeys(facts, tree, path, (place, { guard }) => {
    if (guard !== undefined) found.push(formatPath(place));
  });
  return found;
}

type Visit = (path: Path, facts: Facts, value: Tree) => void;

/** Visits every known key of the tree, each section before its keys. */
function visitKeys(facts: Facts, tree: Tree | undefined, path: Path, visit: Visit): void {
  if (facts.form === 'entries' && Array.isArray(tree)) {
    for (const [index, entry] of tree.entries()) visitKeys(facts.entry, entry, [...path, index], visit);
  }
  if (facts.form !== 'section' || !isMap(tree)) return;
  for (const [key, value] of Object.entries(tree)) {
    const schema = Object.hasOwn(facts.children, key) ? facts.children[key] : undefined;
    if (schema === undefined) continue;
    const child = factsOf(schema);
    visit([...path, key], child, value);
    visitKeys(child, value, [...path, key], visit);
  }
}

/** The path of the key if it is empty, else the paths of its empty items. */
function emptyPlaces(facts: Facts, value: Tree, path: Path): Path[] {
  if (isEmpty(value)) return [path];
  if (facts.form !== 'value') return [];
  if (Array.isArray(value)) {
    return value.flatMap((item, index) => (isEmpty(item) ? [[...path, index]] : []));
  }
  return [];
}

/** Whether the value has no content apart from empty keys. */
export function isEmpty(value: Tree): boolean {
  if (value === null) return true;
  if (typeof value === 'string') return value.trim() === '';
  return Object.keys(prune(value) ?? {}).length === 0;
}

function wantedOf(facts: Facts): string {
  const { guard } = facts;
  const isRequired = facts.form === 'value' && facts.required === true;
  return isRequired ? contentOf(facts) : `${contentOf(facts)}; or remove the key if ${guard}`;
}

function contentOf(facts: Facts): string {
  switch (facts.form) {
    case 'section': {
      const keys = Object.entries(facts.children).filter(([, schema]) => isUsable(factsOf(schema)));
      return `a section with some of these keys: ${keys.map(([key]) => key).join(', ')}`;
    }
    case 'value': {
      const { wanted } = facts.value;
      const each = typeof wanted === 'string' ? wanted : wanted('');
      return facts.many === 'no' ? each : `at least ${each}`;
    }
    default:
      return 'at least one entry';
  }
}

function isUsable({ form }: Facts): boolean {
  return form !== 'ignored' && form !== 'refused';
}
