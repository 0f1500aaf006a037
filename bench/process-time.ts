import { readFile } from 'node:fs/promises';

/** Linux counts in USER_HZ, which is 100 wherever Node runs. */
const ticksPerSecond = 100;

/** Processor time of all threads of a process since its start, user and system, in seconds (proc(5), /proc/pid/stat). */
export async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The second field, in parentheses, may hold anything; the third is the state.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [user, system] = [fields[11], fields[12]].map(Number);
  if (user === undefined || system === undefined) throw new Error(`/proc/${pid}/stat has no times`);
  return (user + system) / ticksPerSecond;
}
