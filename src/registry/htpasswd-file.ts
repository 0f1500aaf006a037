import { ConfigError, type ConfigFault } from '../config/faults.js';

/** The range of `htpasswd -C`. Each step doubles the time of a check; 17 takes some seconds. */
const costs = { least: 4, most: 17 };

export interface HtpasswdEntries {
  /** bcrypt hashes by user name. */
  readonly hashes: ReadonlyMap<string, string>;
  /** Numbers of lines with a hash of another kind. As in registry, these users cannot log in. */
  readonly unusable: readonly number[];
  /** The hash to check for an unknown user name, so that the time of an answer does not reveal which names exist. */
  readonly substitute: string;
}

/**
 * Reads lines `name:hash` as registry does.
 * @throws ConfigError with each line that is not an entry or whose hash cannot be checked. No fault contains a hash.
 */
export function parseHtpasswd(text: string, path: string): HtpasswdEntries {
  const hashes = new Map<string, string>();
  const faults: ConfigFault[] = [];
  const unusable: number[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    const hash = line.slice(colon + 1).trim();
    const got = colon > 0 ? faultOf(hash) : 'no name and hash';
    if (got !== undefined)
      faults.push({ key: `auth.htpasswd.path, line ${index + 1}`, got, wanted: 'NAME:HASH by htpasswd -B' });
    else if (hash.startsWith('$2')) hashes.set(line.slice(0, colon), hash);
    else unusable.push(index + 1);
  }
  if (faults.length > 0) throw new ConfigError(path, faults);
  return { hashes, unusable, substitute: substituteFor([...hashes.values()]) };
}

function faultOf(hash: string): string | undefined {
  if (!hash.startsWith('$2')) return undefined;
  const [, version, cost] = /^\$(2[a-z]?)\$(\d\d)\$[./A-Za-z0-9]{53}$/.exec(hash) ?? [];
  if (version === undefined) return 'an incomplete bcrypt hash';
  if (!['2a', '2b', '2y'].includes(version)) return `a bcrypt hash of the unsupported version ${version}`;
  const wrong = Number(cost) < costs.least || Number(cost) > costs.most;
  return wrong ? `a bcrypt hash of cost ${cost}, outside ${costs.least} to ${costs.most}` : undefined;
}

/** A hash of the highest cost in the file. No password is known for it. */
function substituteFor(hashes: readonly string[]): string {
  const highest =
    hashes
      .map((hash) => hash.slice(4, 6))
      .toSorted()
      .at(-1) ?? '10';
  return `$2b$${highest}$CwTycUXWue0Thq9StjUM0uJ8rwOSZqEcq2wUUxQqqyX5kQ6P6Yr1e`;
}
