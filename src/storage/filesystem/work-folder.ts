import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, readlink, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SingleFlight } from '../../async/single-flight.js';
import { isAbsent, storageError } from './files.js';

const ownerFile = 'owner.json';
/** The time from one write of the owner file (a beat) to the next. */
const usualBeatMs = 10_000;
/**
 * A process counts as dead if its owner file does not change for this many beats of the process that watches it. That
 * is longer than the minute between two beats of earlier versions.
 */
const silentBeats = 8;

/** The content of an owner file, and the number of beats for which it has not changed. */
interface Sign {
  readonly text: string;
  readonly modifiedMs: number;
  readonly beats: number;
}

interface Owner {
  readonly pid: number;
  /** The kernel's boot and the process's start time: the kernel reuses process numbers. */
  readonly started: string;
  /** The namespace of the process number: a container cannot see the processes of another one. */
  readonly namespace: string;
  /** Grows with each beat. */
  readonly beat: number;
}

/**
 * This process's own folder for unfinished files, beside those of others that share the parent; made on first use.
 *
 * Each process writes its owner file again every few seconds, and then reads those of the others. The lease of a folder
 * ends when its owner file has not changed for {@link silentBeats} beats. No clocks are compared, because those of
 * hosts differ. While the storage is away, no process beats, so none counts as dead.
 */
export class WorkFolder implements AsyncDisposable {
  readonly path: string;
  /** One write of the owner file at a time, and one beat. */
  readonly #flights = new SingleFlight<void>();
  #isMade = false;
  #timer: NodeJS.Timeout | undefined;
  #beat = 0;
  #beatAt = -Infinity;
  #others = new Map<string, Sign>();
  /** The number of files removed since the last call of `sweep`. */
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
    // Another process may have removed this folder while this process was stopped.
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

  /** Removes the folders of dead processes. Returns the number of files removed since the last call. */
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
    await this.#flights.idle('beat');
    await rm(this.path, { recursive: true, force: true });
  }

  async #ready(): Promise<void> {
    if (!this.#isMade) await this.#make();
  }

  #make(): Promise<void> {
    return this.#flights.join('make', () => this.#makeNow());
  }

  async #makeNow(): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true });
      await this.#touched();
      this.#beatAt = performance.now();
      this.#isMade = true;
    } catch (error) {
      this.#isMade = false;
      throw storageError(error, `making the folder for unfinished files ${this.path}`);
    }
    this.#timer ??= setInterval(() => {
      void this.#flights.join('beat', () => this.#renew());
    }, this.beatMs).unref();
  }

  async #touched(): Promise<string> {
    const path = join(this.path, ownerFile);
    this.#beat += 1;
    // A write, so that the file server sets the time.
    await writeFile(path, JSON.stringify({ ...(await thisProcess()), beat: this.#beat }));
    return path;
  }

  /** Never throws: the next caller that writes in the folder gets the error. */
  async #renew(): Promise<void> {
    try {
      await this.#make();
      await this.#watch();
      await this.#removeDead();
    } catch {
      // The storage is away. Then no beat counts, and no process is taken for dead.
    }
  }

  /** Counts for how many beats of this process each other owner file has not changed. */
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

  /** Opens the file, so that a network file system asks its server. A folder may have no owner file yet. */
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

/** Whether this kernel knows that the process has ended. `false`: it runs, or this kernel cannot see its namespace. */
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
