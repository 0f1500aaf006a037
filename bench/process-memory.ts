import { readFile, writeFile } from 'node:fs/promises';

/** In bytes, as Linux counts it (proc(5), /proc/pid/status). */
export interface ProcessMemory {
  /** Resident now. */
  readonly resident: number;
  /** The most that was ever resident, since the start or {@link resetPeak}: kept by the kernel, so nothing is missed. */
  readonly peak: number;
}

export async function memoryOf(pid: number): Promise<ProcessMemory> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return { resident: field(status, 'VmRSS'), peak: field(status, 'VmHWM') };
}

export async function resetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, '5');
}

function field(status: string, name: string): number {
  const kibibytes = new RegExp(String.raw`^${name}:\s+(\d+) kB$`, 'm').exec(status)?.[1];
  if (kibibytes === undefined) throw new Error(`/proc/pid/status has no ${name}`);
  return Number(kibibytes) * 1024;
}
