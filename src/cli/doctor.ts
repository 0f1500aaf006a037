import { ConfigError } from '../config/faults.js';
import type { LoadedConfig } from '../config/load.js';
import type { Finding } from '../doctor/check.js';
import { examineMirror } from '../doctor/mirror-checks.js';
import { examineNode } from '../doctor/node-checks.js';
import { NodeFiles } from '../nodes/node-files.js';
import { mirrorOf, readCa } from './configure-node.js';
import type { Display } from './display.js';
import { exit, type ExitCode } from './exit-codes.js';
import { loadAsOwner } from './privileges.js';

/** As they are typed. */
export interface DoctorArguments {
  readonly node?: true;
  readonly mirror?: string;
  readonly ca?: string;
  readonly root: string;
  readonly pull?: string;
  readonly metrics?: string;
  readonly json?: true;
}

interface Asked {
  readonly config: string | undefined;
  readonly doctor: DoctorArguments;
}

/** `doctor`. Throws NodeError where an argument is wrong, and what the signal was aborted with. */
export async function runDoctor(
  { config, doctor }: Asked,
  display: Display,
  signal: AbortSignal,
): Promise<ExitCode> {
  const findings = doctor.node === true ? await ofNode(doctor, signal) : await ofMirror(config, signal);
  const failed = findings.filter(({ verdict }) => verdict === 'fail').length;
  if (doctor.json === true) await display.result(JSON.stringify({ failed, findings }, undefined, 2));
  else for (const finding of findings) await display.result(lineOf(finding));
  return failed === 0 ? exit.done : exit.failed;
}

async function ofNode(given: DoctorArguments, signal: AbortSignal): Promise<Finding[]> {
  const options = {
    mirror: given.mirror === undefined ? undefined : mirrorOf(given.mirror),
    ca: await readCa(given.ca),
    pull: given.pull,
    metrics: given.metrics,
  };
  return examineNode(new NodeFiles(given.root), options, signal);
}

async function ofMirror(path: string | undefined, signal: AbortSignal): Promise<Finding[]> {
  let loaded: LoadedConfig;
  try {
    loaded = loadAsOwner({ path, env: process.env, cwd: process.cwd() });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.faults.map(({ key, got, wanted }) => ({
      check: 'configuration',
      verdict: 'fail',
      message: `${key}: got ${got}`,
      advice: `it has to be ${wanted} (${error.source})`,
    }));
  }
  const { config, warnings, source } = loaded;
  const notes = warnings.map(({ key, message }): Finding => {
    return {
      check: 'configuration',
      verdict: 'warn',
      message: `${key}: ${message}`,
      advice: `see ${source}`,
    };
  });
  const fine: Finding = { check: 'configuration', verdict: 'ok', message: `${source} can be used` };
  return [fine, ...notes, ...(await examineMirror(config, process.env, signal))];
}

function lineOf({ check, verdict, message, advice }: Finding): string {
  return `${verdict.padEnd(4)}  ${check}: ${message}${advice === undefined ? '' : ` -> ${advice}`}`;
}
