import { readFile } from 'node:fs/promises';
import { runSuccessfully } from './process.js';

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
