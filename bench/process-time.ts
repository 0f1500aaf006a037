import { readFile } from 'node:fs/promises';

/** A clock tick of proc(5): USER_HZ, which is 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** Processor time that a process has taken so far, in user and kernel mode together, in seconds. */
export async function processorTimeOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The second field is the program's name in parentheses, which may hold spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
