import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { followLog } from './logs.js';
import { patience, patienceMs } from './patience.js';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A process that a test started, with everything that it wrote. Disposing ends it, by its id. */
export interface RunningProcess extends AsyncDisposable {
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** Standard output and standard error, in the order they came. */
  log(): string;
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM; SIGKILL where that does not end it in time. */
  stop(): Promise<Exit>;
}

export interface ProcessOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

/** No test checks how a disposed process ends, so a process that still has clients need not wait for them. */
const disposalMs = 20_000;

const alive = new Set<ChildProcess>();

/** Ends what is still running and says what that was: the guard at a test file's end. */
export async function endAll(): Promise<string[]> {
  const left = [...alive];
  await Promise.all(
    left.map(async (child) => {
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    }),
  );
  return left.map(({ pid, spawnargs }) => `${pid} ${spawnargs.join(' ')}`);
}

export async function startProcess(
  command: string,
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<RunningProcess> {
  const child = spawn(command, args, {
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = ended(child);
  await once(child, 'spawn');
  const { pid } = child;
  if (pid === undefined) throw new Error(`${command} has no process id`);
  const log = followLog(`${command} (${pid})`, [child.stdout, child.stderr]);
  const end = async (withinMs: number) => {
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), withinMs);
    return exited.finally(() => clearTimeout(timer));
  };
  return {
    pid,
    exited,
    log,
    kill: (signal) => void child.kill(signal),
    stop: () => end(patienceMs),
    [Symbol.asyncDispose]: async () => void (await end(disposalMs)),
  };
}

async function ended(child: ChildProcess): Promise<Exit> {
  alive.add(child);
  const { promise, resolve } = Promise.withResolvers<Exit>();
  // `close`, not `exit`: by then all that it wrote has been read.
  child.once('close', (code, signal) => resolve({ code, signal }));
  const exit = await promise;
  alive.delete(child);
  return exit;
}

/**
 * Settles when `ready` does. Fails, with the log's end, when the process ends before or the time is up.
 */
export async function untilReady(
  running: RunningProcess,
  title: string,
  ready: (signal: AbortSignal) => Promise<unknown>,
): Promise<void> {
  const done = new AbortController();
  const limit = AbortSignal.any([done.signal, patience()]);
  const exit = running.exited.then(({ code, signal }) => {
    throw new Error(`it ended with ${code ?? signal}`);
  });
  try {
    await Promise.race([ready(limit), exit]);
  } catch (error) {
    await running.stop();
    throw new Error(`${title} did not come up\n${running.log().slice(-4000)}`, { cause: error });
  } finally {
    done.abort();
  }
}

/** Until the process has written something that the pattern matches. */
export function untilLogged(running: RunningProcess, pattern: RegExp, signal: AbortSignal): Promise<void> {
  return until(() => pattern.test(running.log()), signal);
}

/** Until the check holds, looking often; for states that send no event. Throws with the check where it never did. */
export async function until(check: () => boolean | Promise<boolean>, signal: AbortSignal): Promise<void> {
  while (!(await check())) {
    if (signal.aborted) throw new Error(`waited in vain until ${check.toString()}`, { cause: signal.reason });
    await delay(20);
  }
}

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. A code other than 0 is a result, not an exception. */
export function runProcess(
  command: string,
  args: readonly string[],
  options: ProcessOptions & { readonly timeoutMs?: number } = {},
): Promise<Output> {
  const { promise, resolve, reject } = Promise.withResolvers<Output>();
  execFile(
    command,
    args,
    {
      env: { ...process.env, ...options.env },
      cwd: options.cwd,
      timeout: options.timeoutMs ?? patienceMs,
      maxBuffer: 64 * 1024 * 1024,
    },
    (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr });
      else if (typeof error.code === 'number') resolve({ code: error.code, stdout, stderr });
      else reject(new Error(`${command} was ended: ${error.message}\n${stderr}`, { cause: error }));
    },
  );
  return promise;
}

/** As {@link runProcess}, where only success is expected. */
export async function runSuccessfully(
  command: string,
  args: readonly string[],
  options: ProcessOptions = {},
): Promise<string> {
  const { code, stdout, stderr } = await runProcess(command, args, options);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}\n${stdout}${stderr}`);
  return stdout;
}
