import { readFileSync, statSync, type BigIntStats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { ConfigError } from './faults.js';

/** A file that is written in place is taken when it has stayed as it is for so long. */
export const settleMs = 1_000;

/** What tells one content of a file from the next without reading it. Rejects where there is no such file. */
export async function versionOf(path: string): Promise<string> {
  return lookAt(await stat(path, { bigint: true })).version;
}

/** Who is told of a file that cannot be used. */
export interface FileLog {
  error(facts: object, message: string): void;
}

interface Look {
  /** Another one for each state of the file; that it is not there is a state like another. */
  readonly version: string;
  /** Which file it is, whatever is in it. */
  readonly file: string;
  readonly empty: boolean;
  /** When it last changed, by the file's own times (ms since 1970). */
  readonly changed: number;
}

function lookAt({ dev, ino, mtimeNs, ctimeNs, size, mtimeMs, ctimeMs }: BigIntStats): Look {
  const file = `${dev}:${ino}`;
  return {
    version: `${file}:${mtimeNs}:${ctimeNs}:${size}`,
    file,
    empty: size === 0n,
    changed: Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs),
  };
}

function unseen(error: unknown): Look {
  return { version: String(error), file: '', empty: true, changed: Infinity };
}

interface Known<T> {
  readonly version: string;
  readonly file: string;
  readonly value: T;
}

/**
 * A file that is read again when it changes: mounted secrets are replaced while the program runs, by a rename, by
 * another link, or in place, where it is empty or half for a moment. So another file is taken at once, and the same one
 * when it stays as it is. What cannot be read or parsed then is told once, and leaves what was there before. What is made
 * of the text is made once for each version of it.
 */
export class WatchedFile<T> {
  #known: Known<T> | undefined;
  /** A version that may not be the last one, and since when it is seen. */
  #unsettled: { readonly version: string; readonly since: number } | undefined;
  #told: string | undefined;

  constructor(
    readonly path: string,
    private readonly parse: (text: string) => T,
    private readonly log: FileLog,
    /** Milliseconds of a clock that never goes back. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The last of it that could be used. The first time it rejects with the system's error, and as `parse` does. */
  async read(): Promise<T> {
    const look = await this.#look();
    const known = this.#known;
    if (known === undefined) return this.#take(look, await readFile(this.path, 'utf8'));
    if (!this.#isNext(known, look)) return known.value;
    try {
      const text = await readFile(this.path, 'utf8');
      return this.#next(known, look, text, await this.#look());
    } catch (err) {
      return this.#keep(known, look, err);
    }
  }

  /** The same where nothing can be waited for: between two connections, never in a client's request. */
  readSync(): T {
    const look = this.#lookSync();
    const known = this.#known;
    if (known === undefined) return this.#take(look, readFileSync(this.path, 'utf8'));
    if (!this.#isNext(known, look)) return known.value;
    try {
      return this.#next(known, look, readFileSync(this.path, 'utf8'), this.#lookSync());
    } catch (err) {
      return this.#keep(known, look, err);
    }
  }

  #look(): Promise<Look> {
    return stat(this.path, { bigint: true }).then(lookAt, unseen);
  }

  #lookSync(): Look {
    try {
      return lookAt(statSync(this.path, { bigint: true }));
    } catch (error) {
      return unseen(error);
    }
  }

  /** Who puts another file there has written it before. A change that nobody looked for is as old as the file says. */
  #isNext(known: Known<T>, { version, file, empty, changed }: Look): boolean {
    if (version === known.version) {
      this.#unsettled = undefined;
      return false;
    }
    if ((file !== known.file && !empty) || Date.now() - changed >= settleMs) return true;
    if (this.#unsettled?.version !== version) this.#unsettled = { version, since: this.now() };
    return this.now() - this.#unsettled.since >= settleMs;
  }

  #take({ version, file }: Look, text: string): T {
    const value = this.parse(text);
    this.#known = { version, file, value };
    return value;
  }

  /** @param after that it has not changed while it was read */
  #next(known: Known<T>, look: Look, text: string, after: Look): T {
    return after.version === look.version ? this.#take(look, text) : known.value;
  }

  #keep({ value }: Known<T>, { version }: Look, err: unknown): T {
    if (this.#told !== version) {
      this.#told = version;
      const faults = err instanceof ConfigError ? { faults: err.faults } : {};
      this.log.error(
        { err, path: this.path, ...faults },
        'a file has changed and cannot be used, what it had stays',
      );
    }
    return value;
  }
}

/** A secret in a file of its own. One newline at the end does not belong to it. */
export function secretFile(path: string, log: FileLog): WatchedFile<string> {
  return new WatchedFile(path, (text) => text.replace(/\r?\n$/, ''), log);
}
