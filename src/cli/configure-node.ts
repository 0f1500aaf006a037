import { readFile } from 'node:fs/promises';
import { configureNode, restoreNode, type Changed, type Configured } from '../nodes/configure.js';
import { NodeError } from '../nodes/faults.js';
import { parseHost, parseMirror, type MirrorAddress } from '../nodes/hosts.js';
import { NodeFiles } from '../nodes/node-files.js';
import { runtimes, type Runtime } from '../nodes/runtimes.js';
import type { Display } from './display.js';
import { exit, type ExitCode } from './exit-codes.js';

/** As they are typed. */
export interface NodeArguments {
  readonly mirror?: string;
  readonly ca?: string;
  readonly upstream?: readonly string[];
  readonly runtime?: readonly string[];
  readonly root: string;
  readonly fallback: boolean;
  readonly setConfigPath?: true;
  readonly dryRun?: true;
  readonly undo?: true;
  readonly force?: true;
  readonly json?: true;
}

/** `configure-node`. Throws NodeError, and what the signal was aborted with. */
export async function runConfigureNode(
  given: NodeArguments,
  display: Display,
  signal: AbortSignal,
): Promise<ExitCode> {
  try {
    return await configure(given, display, signal);
  } catch (cause) {
    if (!(cause instanceof Error) || !('syscall' in cause)) throw cause;
    throw new NodeError('system', cause.message, { cause });
  }
}

async function configure(given: NodeArguments, display: Display, signal: AbortSignal): Promise<ExitCode> {
  const files = new NodeFiles(given.root);
  const dryRun = given.dryRun === true;
  if (given.undo === true) {
    const changed = await restoreNode(files, { force: given.force === true, dryRun });
    if (given.json === true) await display.result(JSON.stringify({ files: changed }, undefined, 2));
    else await showChanges(changed, dryRun, display);
    return exit.done;
  }
  const mirror = mirrorOf(given.mirror);
  const wish = {
    mirror,
    ca: await readCa(given.ca),
    registries: (given.upstream ?? []).map(registryOf),
    runtimes: runtimesOf(given.runtime ?? []),
    fallback: given.fallback,
    setConfigPath: given.setConfigPath === true,
    dryRun,
  };
  const done = await configureNode(files, wish, signal);
  if (given.json === true)
    await display.result(JSON.stringify({ mirror: mirror.url, ...done }, undefined, 2));
  else await show(done, mirror, dryRun, display);
  return exit.done;
}

/** `--ca`, where it is given. Rejects with the system's error. */
export async function readCa(path: string | undefined): Promise<Buffer | undefined> {
  return path === undefined ? undefined : await readFile(path);
}

/** @throws NodeError `argument` */
export function mirrorOf(text: string | undefined): MirrorAddress {
  if (text === undefined) throw new NodeError('argument', '--mirror https://HOST is missing');
  const mirror = parseMirror(text);
  if (mirror === undefined) throw new NodeError('argument', `--mirror: got ${text}; wanted https://HOST`);
  return mirror;
}

function registryOf(text: string): string {
  const host = parseHost(text);
  if (host === undefined)
    throw new NodeError('argument', `--upstream: got ${text}; wanted a host such as ghcr.io`);
  return host;
}

function runtimesOf(given: readonly string[]): Runtime[] {
  const unknown = given.find((name) => !runtimes.some((runtime) => runtime === name));
  if (unknown !== undefined) {
    throw new NodeError('argument', `--runtime: got ${unknown}; wanted one of ${runtimes.join(', ')}`);
  }
  return runtimes.filter((runtime) => given.includes(runtime));
}

async function show(
  done: Configured,
  mirror: MirrorAddress,
  dryRun: boolean,
  display: Display,
): Promise<void> {
  await showChanges(done.files, dryRun, display);
  for (const command of done.reload) await display.result(`then: ${command}`);
  for (const note of done.notes) display.note(`note: ${note}`);
  display.note(`${done.runtimes.join(', ')}: ${done.registries.join(', ')} through ${mirror.url}`);
}

async function showChanges(changed: readonly Changed[], dryRun: boolean, display: Display): Promise<void> {
  if (changed.length === 0) await display.result('nothing to do');
  for (const { path, change, diff } of changed) {
    await display.result(dryRun ? diff.trimEnd() : `${change} ${path}`);
  }
}
