import { AdminError } from '../admin/admin.js';
import type { Config } from '../config/config.js';
import { ConfigError, formatFaults } from '../config/faults.js';
import { NodeError } from '../nodes/faults.js';
import { IdentityConflict } from '../storage/identity.js';
import { StorageError } from '../storage/storage.js';
import { createLogger, type Logger } from '../telemetry/log.js';
import { adminKeyOf, connect } from './connect.js';
import { Display, type Streams } from './display.js';
import { exit, exitCodeOf, type ExitCode } from './exit-codes.js';
import { loadAsOwner } from './privileges.js';
import type { Invocation } from './program.js';
import { jobHeader, jobLine } from './render.js';
import { runTask } from './run-task.js';

type Asked = Exclude<Invocation, { readonly kind: 'serve' | 'healthcheck' | 'said' }>;

/** Ended by a signal. */
class Interrupted extends Error {
  override readonly name = 'Interrupted';
  constructor(readonly code: ExitCode) {
    super('interrupted');
  }
}

/** Does what a command line other than `serve` asks for, to its end. */
export async function runCommand(asked: Asked, streams: Streams): Promise<ExitCode> {
  using interrupts = new Interrupts(streams);
  const { signal } = interrupts;
  const display = new Display(streams);
  try {
    // Loaded on demand: a mirror that serves needs none of it.
    if (asked.kind === 'configure-node') {
      const { runConfigureNode } = await import('./configure-node.js');
      return await runConfigureNode(asked.node, display, signal);
    }
    if (asked.kind === 'doctor') {
      const { runDoctor } = await import('./doctor.js');
      return await runDoctor(asked, display, signal);
    }
    const { config } = loadAsOwner({ path: asked.config, env: process.env, cwd: process.cwd() });
    return await perform(asked, config, quietLog(display, signal), display, signal);
  } catch (error) {
    display.end();
    return ending(signal.aborted ? signal.reason : error, display);
  }
}

async function perform(
  asked: Exclude<Asked, { readonly kind: 'configure-node' | 'doctor' }>,
  config: Config,
  log: Logger,
  display: Display,
  signal: AbortSignal,
): Promise<ExitCode> {
  if (asked.kind === 'token') {
    const key = await adminKeyOf(config, log);
    if (key === undefined) throw new AdminError('unknown', 'no mirror has run on this storage yet');
    await display.result(key.token);
    return exit.done;
  }
  await using connected = await connect(config, log, signal);
  const { administration } = connected;
  if (asked.kind === 'task') {
    // Awaited here: the connection ends with this function.
    return await runTask(administration, asked.task, display, asked.view, signal);
  }
  const jobs = await administration.jobs(signal);
  if (asked.json) await display.result(JSON.stringify(jobs, undefined, 2));
  else for (const line of [jobHeader, ...jobs.map(jobLine)]) await display.result(line);
  return exit.done;
}

/** Only what goes wrong, and not what is left unfinished because somebody has ended the command. */
function quietLog(display: Display, signal: AbortSignal): Logger {
  const write = (line: string): void => {
    if (!signal.aborted) display.note(line.trimEnd());
  };
  return createLogger({ level: 'error', formatter: 'text', fields: {} }, { write });
}

function ending(error: unknown, display: Display): ExitCode {
  if (error instanceof Interrupted) return error.code;
  if (error instanceof ConfigError) {
    display.note(formatFaults(error));
    return exit.misused;
  }
  if (error instanceof IdentityConflict) {
    display.note(error.message);
    return exit.misused;
  }
  if (error instanceof AdminError || error instanceof StorageError) {
    display.note(`cistern: ${error.message}`);
    return error instanceof AdminError ? exitCodeOf(error.code) : exit.failed;
  }
  if (error instanceof NodeError) {
    display.note(`cistern: ${error.message}`);
    return error.code === 'argument' ? exit.misused : exit.failed;
  }
  throw error;
}

/** Ctrl-C ends the work in order; a second one at once. A reader of the results that has left does the same. */
class Interrupts implements Disposable {
  readonly #controller = new AbortController();
  readonly #removals: (() => void)[] = [];

  constructor({ stdout }: Streams) {
    this.#onSignal('SIGINT', exit.interrupted);
    this.#onSignal('SIGTERM', exit.terminated);
    const left = (error: NodeJS.ErrnoException): void => {
      if (error.code !== 'EPIPE') throw error;
      this.#controller.abort(new Interrupted(exit.failed));
    };
    stdout.on('error', left);
    this.#removals.push(() => stdout.off('error', left));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    for (const remove of this.#removals) remove();
  }

  #onSignal(signal: NodeJS.Signals, code: ExitCode): void {
    const handle = (): void => {
      if (this.signal.aborted) process.exit(code);
      this.#controller.abort(new Interrupted(code));
    };
    process.on(signal, handle);
    this.#removals.push(() => process.off(signal, handle));
  }
}
