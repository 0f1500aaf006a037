import { readFileSync, statSync, type BigIntStats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';

/** What tells one content of a file from the next without reading it. Rejects where there is no such file. */
export async function versionOf(path: string): Promise<string> {
  return versionFrom(await stat(path, { bigint: true }));
}

function versionFrom({ dev, ino, mtimeNs, size }: BigIntStats): string {
  return `${dev}:${ino}:${mtimeNs}:${size}`;
}

/**
 * A file that is read again when it changes: mounted secrets are replaced while the program runs, by a rename, by
 * another link or in place. What is made of the text is made once for each version of it.
 */
export class WatchedFile<T> {
  #known: { readonly version: string; readonly value: T } | undefined;

  constructor(
    readonly path: string,
    private readonly parse: (text: string) => T,
  ) {}

  /** As it is now. Rejects with the system's error where the file cannot be read, and as `parse` does. */
  async read(): Promise<T> {
    const version = await versionOf(this.path);
    if (this.#known?.version === version) return this.#known.value;
    return this.#keep(version, await readFile(this.path, 'utf8'));
  }

  /** The same where nothing can be waited for: between two connections, never in a request. */
  readSync(): T {
    const version = versionFrom(statSync(this.path, { bigint: true }));
    if (this.#known?.version === version) return this.#known.value;
    return this.#keep(version, readFileSync(this.path, 'utf8'));
  }

  #keep(version: string, text: string): T {
    const value = this.parse(text);
    this.#known = { version, value };
    return value;
  }
}

/** A secret in a file of its own. One newline at the end does not belong to it. */
export function secretFile(path: string): WatchedFile<string> {
  return new WatchedFile(path, (text) => text.replace(/\r?\n$/, ''));
}
