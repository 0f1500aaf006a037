import { createTwoFilesPatch, FILE_HEADERS_ONLY } from 'diff';
import { X509Certificate } from 'node:crypto';
import { registriesOf } from './ask-mirror.js';
import { NodeError } from './faults.js';
import type { MirrorAddress } from './hosts.js';
import { apply, undo, undoing, type Change } from './journal.js';
import type { NodeFiles } from './node-files.js';
import { runtimesOn, wantedFor, type Runtime, type WantedFile } from './runtimes.js';

export interface NodeWish {
  readonly mirror: MirrorAddress;
  /** PEM. */
  readonly ca: Buffer | undefined;
  /** None: those that the mirror says. */
  readonly registries: readonly string[];
  /** None: those that are found. */
  readonly runtimes: readonly Runtime[];
  readonly fallback: boolean;
  readonly setConfigPath: boolean;
  readonly dryRun: boolean;
}

export interface Changed {
  /** On the node. */
  readonly path: string;
  readonly change: 'made' | 'changed' | 'removed';
  /** In the form of `diff -u`. */
  readonly diff: string;
}

export interface Configured {
  readonly registries: readonly string[];
  readonly runtimes: readonly Runtime[];
  readonly files: readonly Changed[];
  /** Commands that make programs read what was changed. */
  readonly reload: readonly string[];
  readonly notes: readonly string[];
}

/** Makes a node's clients pull through the mirror. What is so already stays. @throws NodeError, the system's errors */
export async function configureNode(
  files: NodeFiles,
  wish: NodeWish,
  signal: AbortSignal,
): Promise<Configured> {
  checkCa(wish.ca);
  const registries =
    wish.registries.length > 0 ? wish.registries : await registriesOf(wish.mirror, wish.ca, signal);
  const runtimes = wish.runtimes.length > 0 ? wish.runtimes : await runtimesOn(files);
  if (runtimes.length === 0) {
    throw new NodeError(
      'argument',
      'neither docker, containerd, CRI-O nor podman is found here: name one (--runtime)',
    );
  }
  const setup = { ...wish, registries, ownCa: wish.ca !== undefined };
  const wanted = await Promise.all(runtimes.map((runtime) => wantedFor(runtime, setup, files)));
  const changes: (Change & WantedFile)[] = [];
  for (const file of wanted.flatMap((each) => each.files)) {
    const before = await files.read(file.path);
    const same = before?.equals(file.bytes) === true;
    if (!same && !changes.some(({ path }) => path === file.path))
      changes.push({ ...file, before, after: file.bytes });
  }
  if (!wish.dryRun) await apply(files, changes);
  return {
    registries,
    runtimes,
    files: changes.map(changed),
    reload: [...new Set(changes.flatMap(({ reload }) => reload ?? []))],
    notes: [...new Set(wanted.flatMap(({ notes }) => notes))],
  };
}

/** Puts back what was there before the first {@link configureNode}. @throws NodeError `edited` unless forced */
export async function restoreNode(
  files: NodeFiles,
  { force, dryRun }: { readonly force: boolean; readonly dryRun: boolean },
): Promise<readonly Changed[]> {
  const changes = await undoing(files, force);
  if (!dryRun) await undo(files, changes);
  return changes.map(changed);
}

function changed({ path, before, after }: Change): Changed {
  const change = before === undefined ? 'made' : after === undefined ? 'removed' : 'changed';
  const [from, to] = [before?.toString('utf8') ?? '', after?.toString('utf8') ?? ''];
  const names = [
    before === undefined ? '/dev/null' : `a${path}`,
    after === undefined ? '/dev/null' : `b${path}`,
  ] as const;
  const options = { context: 3, headerOptions: FILE_HEADERS_ONLY };
  return { path, change, diff: createTwoFilesPatch(...names, from, to, undefined, undefined, options) };
}

/** Clients that cannot read it would pull nothing, whatever comes after the mirror. */
function checkCa(ca: Buffer | undefined): void {
  if (ca === undefined) return;
  try {
    if (ca.includes('-----BEGIN CERTIFICATE-----')) {
      void new X509Certificate(ca);
      return;
    }
  } catch (cause) {
    throw new NodeError('argument', '--ca is not a certificate in PEM', { cause });
  }
  throw new NodeError('argument', '--ca is not a certificate in PEM');
}
