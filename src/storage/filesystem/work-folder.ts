import { randomBytes } from 'node:crypto';
import { mkdir, readFile, readdir, readlink, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isAbsent, storageError } from './files.js';

const ownerFile = 'owner.json';
const aliveEveryMs = 60_000;
const abandonedAfterMs = 24 * 60 * 60_000;

interface Owner {
  readonly host: string;
  readonly pid: number;
  /** The kernel's start time of the process and its pid namespace: pid numbers alone come back. */
  readonly started: string;
  readonly namespace: string;
}

/**
 * This process's own folder for unfinished files, beside those of others that share the parent; made on first use.
 * Its time is renewed while the process lives, so that others can tell an abandoned one, by the file server's clock.
 */
export class WorkFolder implements AsyncDisposable {
  readonly path: string;
  #made: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(readonly parent: string) {
    this.path = join(parent, `${process.pid}-${randomBytes(6).toString('hex')}`);
  }

  /** A path for a new file that nobody else uses. Throws StorageError. */
  async newFile(name: string): Promise<string> {
    await this.#ready();
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
      return (await stat(await this.#touched())).mtimeMs;
    } catch (error) {
      throw storageError(error, 'asking for the time of a folder');
    }
  }

  /** Removes what processes that are gone left behind. Returns the number of their files. */
  async sweep(): Promise<number> {
    const now = await this.now();
    let removed = 0;
    for (const name of await readdir(this.parent)) {
      const path = join(this.parent, name);
      if (path === this.path || !(await isAbandoned(path, now))) continue;
      removed += (await readdir(path)).filter((file) => file !== ownerFile).length;
      await rm(path, { recursive: true, force: true });
    }
    return removed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
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
    } catch (error) {
      this.#made = undefined;
      throw storageError(error, `making the folder for unfinished files ${this.path}`);
    }
    this.#timer ??= setInterval(() => void this.#renew(), aliveEveryMs).unref();
  }

  async #touched(): Promise<string> {
    const path = join(this.path, ownerFile);
    await writeFile(path, JSON.stringify(await thisProcess())); // a write, so that the file server sets the time
    return path;
  }

  async #renew(): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true });
      await this.#touched();
    } catch {
      // Out of reach for a while: whoever writes there will say so, and only a day of it counts as abandoned.
    }
  }
}

async function isAbandoned(path: string, now: number): Promise<boolean> {
  try {
    const [text, facts] = await Promise.all([
      readFile(join(path, ownerFile), 'utf8'),
      stat(join(path, ownerFile)),
    ]);
    if (now - facts.mtimeMs > abandonedAfterMs) return true;
    const owner = JSON.parse(text) as Owner;
    const self = await thisProcess();
    if (owner.host !== self.host || owner.namespace !== self.namespace || self.namespace === '') return false;
    return owner.started !== (await startOf(owner.pid));
  } catch (error) {
    if (!(error instanceof SyntaxError) && !isAbsent(error)) throw error;
    // No readable owner: being made right now, or left half-made.
    const facts = await stat(path).catch(() => undefined);
    return facts !== undefined && facts.isDirectory() && now - facts.mtimeMs > abandonedAfterMs;
  }
}

async function thisProcess(): Promise<Owner> {
  return {
    host: hostname(),
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
