import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, readlink, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAbsent, storageError } from './files.js';

const ownerFile = 'owner.json';
/** How often a living process writes its owner file anew. */
const usualBeatMs = 10_000;
/**
 * A process is dead when its owner file stays the same for so many beats of a process that watches it: longer than the
 * minute that earlier versions take between two beats.
 */
const silentBeats = 8;

/** What an owner file said at a look at it, and for how many beats since. */
interface Sign {
  readonly text: string;
  readonly modifiedMs: number;
  readonly beats: number;
}

interface Owner {
  readonly pid: number;
  /** The kernel's boot and the process's start time: a process number alone comes back. */
  readonly started: string;
  /** Of process numbers: a container cannot look into another one's. */
  readonly namespace: string;
  /** Grows with each beat. */
  readonly beat: number;
}

/**
 * This process's own folder for unfinished files, beside those of others that share the parent; made on first use.
 *
 * Each process writes its owner file again every few seconds, and then reads those of the others. The lease of a folder
 * ends when its owner file has stayed the same for so many beats. No clock is compared: hosts' clocks differ,
 * and a storage that stands still lets nobody beat.
 */
export class WorkFolder implements AsyncDisposable {
  readonly path: string;
  #made: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #beat = 0;
  #beatAt = -Infinity;
  #beating: Promise<void> | undefined;
  #others = new Map<string, Sign>();
  /** Files removed since the last sweep that was asked for. */
  #removed = 0;

  constructor(
    readonly parent: string,
    private readonly beatMs = usualBeatMs,
  ) {
    this.path = join(parent, `${process.pid}-${randomBytes(6).toString('hex')}`);
  }

  /** A path for a new file that nobody else uses. Throws StorageError. */
  async newFile(name: string): Promise<string> {
    await this.#ready();
    // A process that was stopped for long may have lost its folder to another one's sweep.
    if (performance.now() - this.#beatAt > (silentBeats / 2) * this.beatMs) await this.#make();
    return join(this.path, `${name}.${randomBytes(8).toString('hex')}`);
  }

  /** Bytes that the file system has room for; `undefined` where it does not say. */
  async freeBytes(): Promise<number | undefined> {
    try {
      const { blocks, bavail, bsize } = await statfs(this.path);
      return blocks === 0 ? undefined : bavail * bsize;
    } catch (error) {
      throw storageError(error, 'asking for the room of a folder');
    }
  }

  /** The time by the file server's clock, in milliseconds since 1970: files' times are compared with it. */
  async now(): Promise<number> {
    try {
      await this.#ready();
      await mkdir(this.path, { recursive: true });
      return (await stat(await this.#touched())).mtimeMs;
    } catch (error) {
      throw storageError(error, 'asking for the time of a folder');
    }
  }

  /** Removes what dead processes left behind. Returns the number of files removed since this was last called. */
  async sweep(): Promise<number> {
    try {
      await this.#ready();
      await this.#removeDead();
    } catch (error) {
      throw storageError(error, `sweeping ${this.parent}`);
    }
    const removed = this.#removed;
    this.#removed = 0;
    return removed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#beating;
    await rm(this.path, { recursive: true, force: true });
  }

  #ready(): Promise<void> {
    this.#made ??= this.#make();
    return this.#made;
  }

  async #make(): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true });
      await this.#touched();
      this.#beatAt = performance.now();
    } catch (error) {
      this.#made = undefined;
      throw storageError(error, `making the folder for unfinished files ${this.path}`);
    }
    this.#timer ??= setInterval(() => {
      this.#beating ??= this.#renew().finally(() => (this.#beating = undefined));
    }, this.beatMs).unref();
  }

  async #touched(): Promise<string> {
    const path = join(this.path, ownerFile);
    this.#beat += 1;
    // A write, so that the file server sets the time.
    await writeFile(path, JSON.stringify({ ...(await thisProcess()), beat: this.#beat }));
    return path;
  }

  /** Never throws: whoever writes in the folder tells what is wrong with it. */
  async #renew(): Promise<void> {
    try {
      await this.#make();
      await this.#watch();
      await this.#removeDead();
    } catch {
      // Out of reach for a while. Then no beat counts, and nobody is taken for dead.
    }
  }

  /** Counts for how many beats of this process each other one has been silent. */
  async #watch(): Promise<void> {
    const found = new Map<string, Sign>();
    for (const name of await this.#otherFolders()) {
      const sign = await this.#signOf(name);
      const before = this.#others.get(name);
      found.set(name, isSame(before, sign) ? { ...sign, beats: before.beats + 1 } : sign);
    }
    this.#others = found;
  }

  async #removeDead(): Promise<void> {
    for (const name of await this.#otherFolders()) {
      const sign = await this.#signOf(name);
      const before = this.#others.get(name);
      const isSilent = isSame(before, sign) && before.beats >= silentBeats;
      if (!isSilent && !(await hasEnded(sign.text))) continue;
      const path = join(this.parent, name);
      const files = await readdir(path).catch(() => []);
      await rm(path, { recursive: true, force: true });
      this.#removed += files.filter((file) => file !== ownerFile).length;
    }
  }

  async #otherFolders(): Promise<string[]> {
    const entries = await readdir(this.parent, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory() && join(this.parent, entry.name) !== this.path)
      .map(({ name }) => name);
  }

  /** By opening the file, so that a network file system asks its server. A folder may have no owner file yet. */
  async #signOf(name: string): Promise<Sign> {
    try {
      await using file = await open(join(this.parent, name, ownerFile));
      const { mtimeMs } = await file.stat();
      return { text: await file.readFile('utf8'), modifiedMs: mtimeMs, beats: 0 };
    } catch (error) {
      if (isAbsent(error)) return { text: '', modifiedMs: 0, beats: 0 };
      throw error;
    }
  }
}

function isSame(before: Sign | undefined, now: Sign): before is Sign {
  return before?.text === now.text && before.modifiedMs === now.modifiedMs;
}

/** Whether this machine's kernel knows that the process is gone. `false`: it lives, or runs where nobody here can look. */
async function hasEnded(ownerText: string): Promise<boolean> {
  let owner: Owner;
  try {
    owner = JSON.parse(ownerText) as Owner;
  } catch {
    return false; // being written right now
  }
  const self = await thisProcess();
  const isNear = self.namespace !== '' && owner.namespace === self.namespace;
  if (!isNear || bootOf(owner.started) !== bootOf(self.started)) return false;
  return owner.started !== (await startOf(owner.pid));
}

function bootOf(started: string): string | undefined {
  return started.split(':')[0];
}

async function thisProcess(): Promise<Omit<Owner, 'beat'>> {
  return {
    pid: process.pid,
    started: (await startOf(process.pid)) ?? '',
    namespace: await readlink('/proc/self/ns/pid').catch(() => ''),
  };
}

/** Field 22 of /proc/<pid>/stat, with the boot's id; `undefined` when there is no such process. */
async function startOf(pid: number): Promise<string | undefined> {
  try {
    const [line, boot] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'utf8'),
      readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
    ]);
    // The second field is the command in parentheses, and may hold anything.
    return `${boot.trim()}:${line.slice(line.lastIndexOf(')') + 2).split(' ')[19] ?? ''}`;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
