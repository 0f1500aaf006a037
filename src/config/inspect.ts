import { closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ConfigFault, ConfigNote } from './faults.js';
import { factsOf, type Facts, type SectionFacts, type ValueFacts } from './key.js';
import { nearest } from './nearest.js';
import { formatPath, isMap, type Path, type Tree, type TreeMap } from './tree.js';

export interface Findings {
  readonly notes: ConfigNote[];
  readonly faults: ConfigFault[];
}

/**
 * Looks at what the types do not tell: keys that nobody knows, keys without effect, keys that are refused, and
 * files that are not there. Paths become absolute, in place.
 */
export function inspect(tree: TreeMap, root: SectionFacts, cwd: string): Findings {
  const findings: Findings = { notes: [], faults: [] };
  const visit = (facts: Facts, value: Tree, path: Path): void => {
    switch (facts.form) {
      case 'section':
        visitSection(facts, value, path);
        break;
      case 'entries':
        if (Array.isArray(value))
          value.forEach((entry, index) => visitSection(facts.entry, entry, [...path, index]));
        break;
      case 'ignored':
        findings.notes.push({ key: formatPath(path), message: `has no effect: ${facts.text}` });
        break;
      case 'refused':
        findings.faults.push({
          key: formatPath(path),
          got: `this key, but ${facts.text}`,
          wanted: facts.wanted,
        });
        break;
      case 'value':
      case 'headers':
        break;
    }
  };
  const visitSection = (facts: SectionFacts, section: Tree, path: Path): void => {
    if (!isMap(section)) return;
    for (const [key, value] of Object.entries(section)) {
      const schema = Object.hasOwn(facts.children, key) ? facts.children[key] : undefined;
      if (schema === undefined) reportUnknown(findings, facts, key, path);
      else {
        const child = factsOf(schema);
        if (child.form === 'value') {
          noteBareDuration(findings, child, value, [...path, key]);
          section[key] = resolvePaths(findings, child, value, [...path, key], cwd);
        } else visit(child, value, [...path, key]);
      }
    }
  };
  visitSection(root, tree, []);
  return findings;
}

function reportUnknown({ notes, faults }: Findings, facts: SectionFacts, key: string, path: Path): void {
  const known = Object.keys(facts.children).filter((name) => {
    const child = facts.children[name];
    return child !== undefined && factsOf(child).form !== 'refused';
  });
  const close = nearest(key, known);
  const place = formatPath([...path, key]);
  const child = close === undefined ? undefined : facts.children[close];
  const isGuard = child !== undefined && factsOf(child).guard !== undefined;
  // An operator who writes `clientCAs` believes that it has an effect.
  if (isGuard && close?.toLowerCase() === key.toLowerCase()) {
    faults.push({ key: place, got: 'an unknown key', wanted: `${close}, in lower case` });
  } else if (facts.unknown === 'warning') {
    notes.push({
      key: place,
      message: `is not a known key, and has no effect; the nearest is ${formatPath([...path, close ?? ''])}`,
    });
  } else {
    const wanted =
      close === undefined ? 'no key here' : `one of ${known.join(', ')}; the nearest is ${close}`;
    faults.push({ key: place, got: 'an unknown key', wanted });
  }
}

/** Valid, as in registry, but seldom what the operator means. */
function noteBareDuration({ notes }: Findings, facts: ValueFacts, value: Tree, path: Path): void {
  const { kind, read } = facts.value;
  if (kind !== 'duration' && kind !== 'schedule') return;
  if (typeof value !== 'string' || !/^0*[1-9]\d*$/.test(value) || read(value) === undefined) return;
  const message = `has no unit, so it counts nanoseconds: ${Number(value) / 1e9} s; write it with a unit`;
  notes.push({ key: formatPath(path), message });
}

function resolvePaths(findings: Findings, facts: ValueFacts, value: Tree, path: Path, cwd: string): Tree {
  const kind = facts.value.path;
  if (kind === undefined) return value;
  if (Array.isArray(value)) {
    return value.map((item, index) => resolvePaths(findings, facts, item, [...path, index], cwd));
  }
  if (typeof value !== 'string') return value;
  const absolute = resolve(cwd, value);
  const trouble = kind === 'file' ? unusable(absolute, facts.value.holds) : undefined;
  if (trouble !== undefined) {
    findings.faults.push({
      key: formatPath(path),
      got: `${absolute}, ${trouble}`,
      wanted: typeof facts.value.wanted === 'string' ? facts.value.wanted : 'a readable file',
    });
  }
  return absolute;
}

/** Why a file cannot be used: it is unreadable, or `holds` rejects its content. `undefined` if it can be used. */
function unusable(path: string, holds: ((text: string) => boolean) | undefined): string | undefined {
  try {
    const stats = statSync(path);
    if (stats.isDirectory()) return 'which is a folder';
    // `access` would go by who started the program, not by whom it acts as (cli/privileges.ts).
    const opened = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const isHollow = holds !== undefined && stats.isFile() && !holds(readFileSync(opened, 'utf8'));
      return isHollow ? 'which is empty or has only comments' : undefined;
    } finally {
      closeSync(opened);
    }
  } catch (error) {
    return explainFileError(error);
  }
}

/** What an error of the file system means, without its path. */
export function explainFileError(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
  return explanations[code] ?? `which cannot be read (${code})`;
}

const explanations: Record<string, string> = {
  ENOENT: 'which does not exist',
  ENOTDIR: 'which does not exist',
  EACCES: 'which this user may not read',
  EISDIR: 'which is a folder',
};
