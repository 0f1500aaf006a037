import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, open, rename, rm, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isAbsent, type NodeFiles } from './node-files.js';
import { NodeError } from './faults.js';

/** Where a node keeps what was there before: `journal.json`, and the files themselves under `before/`. */
export const stateFolder = '/var/lib/cistern/node';
const journalFile = `${stateFolder}/journal.json`;
const newFileMode = 0o644;

export interface Change {
  /** On the node. */
  readonly path: string;
  /** `undefined`: it was not there. */
  readonly before: Buffer | undefined;
  /** `undefined`: it is to go. */
  readonly after: Buffer | undefined;
}

interface Entry {
  readonly path: string;
  /** Whether there was such a file; then it is under `before/`. */
  readonly existed: boolean;
  /** SHA-256 of what was written. */
  readonly written: string;
  /** It was changed by others between two runs of ours: what was there first is not all that would be lost. */
  readonly edited: boolean;
}

interface Journal {
  readonly version: 1;
  readonly entries: readonly Entry[];
  /** Made on the way; the deepest last. */
  readonly folders: readonly string[];
}

const nothing: Journal = { version: 1, entries: [], folders: [] };

/**
 * Changes files so that it can be undone. What was there is kept first, once, whatever comes later; a file is replaced
 * whole, with the rights and the owner that it had.
 */
export async function apply(files: NodeFiles, changes: readonly Change[]): Promise<void> {
  for (const change of changes) {
    if (change.after === undefined) continue;
    const folders = await foldersToMake(files, dirname(change.path));
    await remember(files, change, change.after, folders);
    await replace(files, change.path, change.after);
  }
}

/**
 * What undoing would change, the last first. `force`: also what was edited since.
 * @throws NodeError `edited`
 */
export async function undoing(files: NodeFiles, force: boolean): Promise<Change[]> {
  const changes: Change[] = [];
  const edited: string[] = [];
  for (const entry of (await readJournal(files)).entries.toReversed()) {
    const { path, existed, written } = entry;
    const now = await files.read(path);
    const before = existed ? await files.read(keptAt(path)) : undefined;
    if (existed && before === undefined) {
      throw new NodeError('unreadable', `${files.pathOf(keptAt(path))}, which was there before, is gone`);
    }
    if (isEqual(now, before)) continue;
    if (now === undefined || sumOf(now) !== written || entry.edited) edited.push(path);
    changes.push({ path, before: now, after: before });
  }
  if (edited.length > 0 && !force) {
    throw new NodeError(
      'edited',
      `edited since it was written: ${edited.join(', ')} (--force undoes it all the same)`,
    );
  }
  return changes;
}

/** Does what {@link undoing} gave, and forgets. */
export async function undo(files: NodeFiles, changes: readonly Change[]): Promise<void> {
  const { folders } = await readJournal(files);
  for (const { path, after } of changes) {
    if (after === undefined) await rm(await files.real(path), { force: true });
    else await replace(files, path, after);
  }
  await rm(files.pathOf(stateFolder), { recursive: true, force: true });
  for (const folder of folders.toReversed()) await removeEmpty(files.pathOf(folder));
}

function isEqual(one: Buffer | undefined, other: Buffer | undefined): boolean {
  return one === undefined || other === undefined ? one === other : one.equals(other);
}

async function remember(
  files: NodeFiles,
  change: Change,
  after: Buffer,
  made: readonly string[],
): Promise<void> {
  const { path, before } = change;
  const journal = await readJournal(files);
  const known = journal.entries.find((entry) => entry.path === path);
  const others = journal.entries.filter((entry) => entry.path !== path);
  const stateFolders = await foldersToMake(files, stateFolder);
  if (known === undefined && before !== undefined) await replace(files, keptAt(path), before, path);
  const entry: Entry = {
    path,
    existed: known?.existed ?? before !== undefined,
    written: sumOf(after),
    edited: known !== undefined && (known.edited || before === undefined || sumOf(before) !== known.written),
  };
  const folders = [
    ...new Set([...journal.folders, ...stateFolders.filter((each) => each !== stateFolder), ...made]),
  ];
  const kept: Journal = { version: 1, entries: [...others, entry], folders };
  await replace(files, journalFile, Buffer.from(`${JSON.stringify(kept, undefined, 2)}\n`));
}

async function readJournal(files: NodeFiles): Promise<Journal> {
  const text = await files.text(journalFile);
  if (text === undefined) return nothing;
  try {
    return JSON.parse(text) as Journal;
  } catch (cause) {
    throw new NodeError('unreadable', `${files.pathOf(journalFile)} is not JSON`, { cause });
  }
}

function keptAt(path: string): string {
  return `${stateFolder}/before${path}`;
}

function sumOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Folders on the way to one that are not there yet, the outermost first. */
async function foldersToMake(files: NodeFiles, folder: string): Promise<string[]> {
  if (folder === '/' || (await files.hasOneOf(folder))) return [];
  return [...(await foldersToMake(files, dirname(folder))), folder];
}

/** Writes beside the file and puts that in its place. `like`: whose rights and owner it gets, the file's own else. */
async function replace(files: NodeFiles, path: string, bytes: Buffer, like = path): Promise<void> {
  const target = await files.real(path);
  const facts = await stat(await files.real(like)).catch((error: unknown) => {
    if (isAbsent(error)) return undefined;
    throw error;
  });
  await mkdir(dirname(target), { recursive: true });
  const beside = join(dirname(target), `.cistern-${process.pid}-${Date.now()}`);
  try {
    const file = await open(beside, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    if (facts !== undefined) await chown(beside, facts.uid, facts.gid);
    await chmod(beside, facts === undefined ? newFileMode : facts.mode & 0o7777);
    await rename(beside, target);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

async function removeEmpty(path: string): Promise<void> {
  try {
    await rmdir(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    // Something is in it, or it is where something is mounted.
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY'].includes(String(code))) throw error;
  }
}
