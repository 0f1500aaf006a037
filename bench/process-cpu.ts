import { readFile } from 'node:fs/promises';

/** As Linux tells it to every process, whatever the kernel's own clock does (USER_HZ). */
const ticksPerSecond = 100;

/** Seconds of processor that a process has used so far, in steps of 10 ms (proc(5), /proc/pid/stat). */
export async function cpuSecondsOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name before it, in parentheses, may contain anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
