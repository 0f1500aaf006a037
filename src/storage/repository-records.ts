import { randomUUID } from 'node:crypto';
import { loopTurn } from '../async/loop-turn.js';
import { parseRepository, type Repository } from '../oci/name.js';
import type { RecordStore } from './storage.js';

/** The parts of the list, as JSON: `[[<first name>, <key>], …]`. */
const contentsKey = 'content/repositories.json';
/** Each part is a record of names, one a line, sorted. */
const partsFolder = 'content/repositories/';
/** A record for each repository that got a manifest after the list was written. */
const addedFolder = 'content/added-repositories/';
/** Ends the key of such a record: no component of a repository's name begins with this. */
const addedEnd = '/_';

/** A part holds the names from its first one up to the next part's first one. */
export interface Part {
  readonly first: Repository;
  readonly key: string;
}

export interface RecordedList {
  readonly parts: readonly Part[];
  /** Sorted; some may be in the parts as well. */
  readonly added: readonly Repository[];
}

/** `undefined` where no job has written the list, or where this version cannot read it. */
export async function readList(records: RecordStore): Promise<RecordedList | undefined> {
  // In this order: a job removes records of added repositories after it has written the list with them.
  const added = await records.listRecords(addedFolder);
  const bytes = await records.readRecord(contentsKey);
  const parts = bytes && parseParts(bytes);
  return parts && { parts, added: added.flatMap(addedName).sort() };
}

/** `undefined`: a job has written the list anew since, without this part. */
export async function readPart(
  records: RecordStore,
  { key }: Part,
): Promise<readonly Repository[] | undefined> {
  const bytes = await records.readRecord(key);
  return bytes && namesIn(bytes.toString('utf8').split('\n'));
}

/** To be called after the repository got its manifest: a job that removes the record then sees the manifest. */
export async function recordAdded(records: RecordStore, repository: Repository): Promise<void> {
  await records.writeRecord(`${addedFolder}${repository}${addedEnd}`, Buffer.alloc(0));
}

/** The records of added repositories until now, for {@link writeList}. */
export function listAdded(records: RecordStore): Promise<readonly string[]> {
  return records.listRecords(addedFolder);
}

/**
 * Writes the list anew, with a part for each page of sorted names. `added`: the records that {@link listAdded} gave
 * before the names were looked for.
 */
export async function writeList(
  records: RecordStore,
  pages: Iterable<readonly Repository[]>,
  added: readonly string[],
): Promise<void> {
  const before = await records.listRecords(partsFolder);
  const parts: (readonly [Repository, string])[] = [];
  for (const page of pages) {
    await loopTurn();
    const [first] = page;
    if (first === undefined) continue;
    const key = partsFolder + randomUUID();
    await records.writeRecord(key, Buffer.from(page.map((name) => `${name}\n`).join('')));
    parts.push([first, key]);
  }
  await records.writeRecord(contentsKey, Buffer.from(`${JSON.stringify(parts)}\n`));
  for (const key of [...before, ...added]) await records.removeRecord(key);
}

function parseParts(bytes: Buffer): Part[] | undefined {
  try {
    const found: unknown = JSON.parse(bytes.toString('utf8'));
    if (!Array.isArray(found)) return undefined;
    const parts = found.flatMap(parsePart);
    return parts.length === found.length ? parts : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function parsePart(entry: unknown): Part[] {
  const [name, key] = Array.isArray(entry) ? (entry as unknown[]) : [];
  const first = typeof name === 'string' ? parseRepository(name) : undefined;
  return first !== undefined && typeof key === 'string' && key.startsWith(partsFolder)
    ? [{ first, key }]
    : [];
}

function addedName(key: string): Repository[] {
  return key.endsWith(addedEnd) ? namesIn([key.slice(addedFolder.length, -addedEnd.length)]) : [];
}

function namesIn(lines: readonly string[]): Repository[] {
  return lines.map(parseRepository).filter((name) => name !== undefined);
}
