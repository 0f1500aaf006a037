import { readFile } from 'node:fs/promises';
import { type TemporaryFolder, temporaryFolder } from './folder.js';
import { runSuccessfully } from './process.js';

/** A disk of so many bytes, mounted on a folder of one's own. Needs root. */
export async function smallDisk(bytes: number): Promise<TemporaryFolder> {
  const { path, ...folder } = await temporaryFolder();
  await runSuccessfully('/usr/bin/mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path]);
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      await runSuccessfully('/usr/bin/umount', ['-l', path]);
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** Unmounts all that is still mounted below a folder; container engines leave such behind. */
export async function unmountBelow(folder: string): Promise<void> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  const below = mounts
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point.startsWith(`${folder}/`));
  // The last mounted first, as it may lie within another.
  for (const point of below.toReversed()) await runSuccessfully('/usr/bin/umount', ['-l', point]);
}
