import { link, mkdir, open, rename, rm, rmdir, statfs, unlink, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import { codeOf, type Check, type Tell } from './check.js';
import type { Clocks } from './clocks.js';

const content = Buffer.from('0123456789');
const littleShare = 0.05;
/** The `type` of statfs(2) for file systems whose times are another machine's: NFS, Ceph, SMB, FUSE. */
const remoteTypes: ReadonlySet<number> = new Set([0x6969, 0xc36400, 0xff534d42, 0xfe534d42, 0x65735546]);

/** A folder that the mirror writes to: does there what the mirror does, and removes it again. */
export function folderCheck(name: string, key: string, folder: string, clocks: Clocks): Check {
  return {
    name,
    run: async (tell) => {
      const made = await missingFolders(folder);
      const base = join(folder, `.cistern-doctor-${randomBytes(6).toString('hex')}`);
      const paths = { written: base, moved: `${base}.moved`, exclusive: `${base}.link` };
      try {
        if (await works(folder, key, paths, clocks, tell)) await tellRoom(folder, tell);
      } finally {
        for (const path of Object.values(paths)) await rm(path, { force: true }).catch(() => undefined);
        for (const path of made.toReversed()) await rmdir(path).catch(() => undefined);
      }
    },
  };
}

interface Paths {
  readonly written: string;
  readonly moved: string;
  readonly exclusive: string;
}

/** Each step with what it means when it cannot be done. */
async function works(
  folder: string,
  key: string,
  paths: Paths,
  clocks: Clocks,
  tell: Tell,
): Promise<boolean> {
  const { written, moved, exclusive } = paths;
  const steps: readonly (readonly [string, () => Promise<unknown>, string])[] = [
    ['be made', () => mkdir(folder, { recursive: true }), ownerAdvice(folder, key)],
    [
      'be written to',
      () => writeFile(written, content, { flag: 'wx', flush: true }),
      ownerAdvice(folder, key),
    ],
    ['rename files', () => rename(written, moved), 'use a file system that renames atomically'],
    ['give parts of files', () => readPart(moved, clocks), 'use a file system that can be read at any place'],
    [
      'create files exclusively',
      () => linkTwice(moved, exclusive),
      'use a file system with hard links, as NFS and CephFS have',
    ],
    ['delete files', () => unlink(exclusive), 'let the mirror delete what it made'],
  ];
  for (const [doing, work, advice] of steps) {
    try {
      await work();
    } catch (error) {
      tell.fail(`${folder} cannot ${doing}: ${codeOf(error)}`, hints[codeOf(error)] ?? advice);
      return false;
    }
  }
  return true;
}

const hints: Readonly<Record<string, string>> = {
  EROFS: 'mount it writable: a mirror keeps what it fetches',
  ENOSPC: 'make room there, or set proxy.maxsize and proxy.minfree',
  EDQUOT: 'make room there, or raise the quota',
};

function ownerAdvice(folder: string, key: string): string {
  const user = `${process.geteuid?.()}:${process.getegid?.()}`;
  return `let user ${user} write to ${folder}, or have ${key} name another folder`;
}

async function readPart(path: string, clocks: Clocks): Promise<void> {
  const file = await open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 3);
    if (!buffer.equals(content.subarray(3, 7))) throw new Error('what was read is not what was written');
    const { type } = await statfs(path);
    if (remoteTypes.has(type)) clocks.note('the storage', (await file.stat()).mtimeMs, 2_000);
  } finally {
    await file.close();
  }
}

async function linkTwice(from: string, to: string): Promise<void> {
  await link(from, to);
  try {
    await link(from, to);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    throw error;
  }
  throw new Error('two could create the same file');
}

async function tellRoom(folder: string, tell: Tell): Promise<void> {
  const { blocks, bavail, bsize } = await statfs(folder);
  if (blocks === 0) {
    tell.ok(`${folder} can be used; it does not say how much room there is`);
    return;
  }
  const room = `${gigabytes(bavail * bsize)} of ${gigabytes(blocks * bsize)} free`;
  if (bavail / blocks >= littleShare) tell.ok(`${folder} can be used: ${room}`);
  else
    tell.warn(
      `${folder}: ${room}`,
      'set proxy.maxsize or proxy.minfree, so that the mirror makes room itself',
    );
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** Those on the way that are not there yet, the outermost first. */
async function missingFolders(folder: string): Promise<string[]> {
  try {
    await statfs(folder);
    return [];
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' || folder === dirname(folder)) return [];
    return [...(await missingFolders(dirname(folder))), folder];
  }
}
