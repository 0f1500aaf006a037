import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { commandOf } from '../test/parts/debian.js';

/** Where and with what something was measured. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  /** In bytes. */
  readonly memory: number;
  readonly kernel: string;
  readonly system: string;
  readonly node: string;
  readonly dockerRegistry: string;
  /** Of one minute, before anything of the benchmark ran. */
  readonly loadAverage: number;
}

export async function describeMachine(): Promise<Machine> {
  const { stdout } = await promisify(execFile)(commandOf('docker-registry'), ['--version']);
  const system = await readFile('/etc/os-release', 'utf8');
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memory: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(system)?.[1] ?? 'unknown',
    node: process.version,
    dockerRegistry: /\d+\.\d+\.\d+\S*/.exec(stdout)?.[0] ?? stdout.trim(),
    loadAverage: loadavg()[0] ?? Number.NaN,
  };
}

export function machineText(machine: Machine): string {
  const gibibytes = (machine.memory / 1024 ** 3).toFixed(1);
  return [
    `${machine.cpu}, ${machine.cores} cores, ${gibibytes} GiB`,
    `${machine.system}, Linux ${machine.kernel}`,
    `Node ${machine.node}`,
    `docker-registry ${machine.dockerRegistry}`,
    `load average before: ${machine.loadAverage.toFixed(2)}`,
  ].join('; ');
}

/** The line under a table: what its figures are, when they were taken, and where (`machineText`). */
export function measuredNow(what: string, machine: string): string {
  return `${what}, measured on ${new Date().toISOString().slice(0, 10)}. ${machine}.`;
}
