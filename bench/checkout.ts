import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { temporaryFolder } from '../test/parts/folder.js';
import { CannotMeasure } from './command.js';
import type { Build } from './server.js';

const run = promisify(execFile);
const here = fileURLToPath(new URL('..', import.meta.url));

/** A commit's files in a folder of their own, which goes when it is disposed. */
export interface Checkout extends AsyncDisposable {
  readonly path: string;
  /** In short. */
  readonly commit: string;
}

/** What a branch, tag or commit of this repository names. */
export async function checkOut(reference: string, signal: AbortSignal): Promise<Checkout> {
  const commit = await git(
    signal,
    'rev-parse',
    '--verify',
    '--short',
    '--end-of-options',
    `${reference}^{commit}`,
  )
    .then((output) => output.trim())
    .catch(() => {
      signal.throwIfAborted();
      throw new CannotMeasure(`git knows no commit ${reference} here`);
    });
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const path = join(folder.path, 'checkout');
  // Not aborted: it must go whatever ends the benchmark.
  cleanup.defer(async () => void (await git(undefined, 'worktree', 'remove', '--force', path)));
  await git(signal, 'worktree', 'add', '--quiet', '--detach', path, commit);
  const owned = cleanup.move();
  return { path, commit, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Installs and builds by the commit's own scripts; what this checkout has installed serves where both lock the same. */
export async function buildCheckout({ path, commit }: Checkout, signal: AbortSignal): Promise<Build> {
  const prepare = join(path, 'scripts/prepare.mjs');
  if (!existsSync(prepare)) throw new CannotMeasure(`${commit} is too old: it has no scripts/prepare.mjs`);
  const lock = 'package-lock.json';
  const [locked, wanted] = await Promise.all([here, path].map((root) => readFile(join(root, lock), 'utf8')));
  if (locked === wanted) await symlink(join(here, 'node_modules'), join(path, 'node_modules'));
  await run(process.execPath, [prepare], { cwd: path, signal, maxBuffer: Infinity });
  return {
    main: join(path, 'dist/main.js'),
    node: join(path, 'node_modules/node/bin/node'),
  };
}

/** Whether the commit has the scenario: one that it does not have may need settings that it does not know. */
export async function hasScenario({ path }: Checkout, name: string, signal: AbortSignal): Promise<boolean> {
  const args = [
    '-C',
    path,
    'grep',
    '--quiet',
    '--fixed-strings',
    `name: '${name}'`,
    'HEAD',
    '--',
    'bench/scenarios',
  ];
  return await git(signal, ...args).then(
    () => true,
    () => {
      signal.throwIfAborted();
      return false;
    },
  );
}

async function git(signal: AbortSignal | undefined, ...args: readonly string[]): Promise<string> {
  const { stdout } = await run('git', ['-C', here, ...args], signal === undefined ? {} : { signal });
  return stdout;
}
