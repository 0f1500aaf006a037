import { access, readFile, readdir, realpath } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { NodeError } from './faults.js';

/** A node's file system, below its root: `/`, or where another machine's disk is mounted. Paths are the node's own. */
export class NodeFiles {
  constructor(readonly root: string) {}

  pathOf(path: string): string {
    return join(this.root, path);
  }

  /** `undefined` where there is no such file. Throws the system's error. */
  async read(path: string): Promise<Buffer | undefined> {
    try {
      return await readFile(this.pathOf(path));
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  async text(path: string): Promise<string | undefined> {
    return (await this.read(path))?.toString('utf8');
  }

  async hasOneOf(...paths: readonly string[]): Promise<boolean> {
    for (const path of paths) {
      const there = await access(this.pathOf(path)).then(
        () => true,
        () => false,
      );
      if (there) return true;
    }
    return false;
  }

  /** What is directly in a folder, sorted; nothing where it is absent. */
  async names(path: string): Promise<string[]> {
    try {
      return (await readdir(this.pathOf(path))).sort();
    } catch (error) {
      if (isAbsent(error)) return [];
      throw error;
    }
  }

  /**
   * Where a file really is: a link stays, and what it leads to is written. Of a file that is not there, its own path.
   * @throws NodeError `outside` where that is not below the root: a link of another machine means another file here.
   */
  async real(path: string): Promise<string> {
    try {
      const found = await realpath(this.pathOf(path));
      const below = relative(await realpath(this.root), found);
      if (!below.startsWith('..')) return found;
    } catch (error) {
      if (isAbsent(error)) return this.pathOf(path);
      throw error;
    }
    throw new NodeError('outside', `${path} leads out of ${this.root}`);
  }
}

export function isAbsent(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
