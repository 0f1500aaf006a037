#!/usr/bin/env -S MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=131072 node --max-semi-space-size=2 --max-old-space-size=384
import { setFlagsFromString } from 'node:v8';
import { ConfigError, formatFaults } from './config/faults.js';
import { secretsIn } from './config/secret.js';
import { exit } from './cli/exit-codes.js';
import { loadAsOwner } from './cli/privileges.js';
import { readCommandLine } from './cli/program.js';
import type { RunningMirror } from './cli/serve.js';
import { IdentityConflict } from './storage/identity.js';
import { createLogger, type Logger } from './telemetry/log.js';

// V8 then collects sooner, and closes gaps in its pages: what bursts leave behind otherwise stays for good.
setFlagsFromString('--optimize-for-size');
await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<void> {
  const { stdout, stderr } = process;
  const invocation = readCommandLine(args, {
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
  });
  if (invocation.kind === 'serve') await runServer(invocation.config);
  else if (invocation.kind === 'said') process.exitCode = invocation.code;
  else if (invocation.kind === 'healthcheck') process.exitCode = await runHealthcheck(invocation.config);
  else {
    const { runCommand } = await import('./cli/command.js');
    process.exitCode = await runCommand(invocation, { stdout, stderr });
  }
}

/** Asked often, so it loads nothing that it does not need. */
async function runHealthcheck(path: string | undefined): Promise<number> {
  const { healthcheck } = await import('./cli/healthcheck.js');
  return await healthcheck({ path, env: process.env, cwd: process.cwd() }, process.stderr);
}

async function runServer(path: string | undefined): Promise<void> {
  let log: Logger | undefined;
  try {
    const loaded = loadAsOwner({ path, env: process.env, cwd: process.cwd() });
    const { config, warnings, source, became, rootBecause } = loaded;
    log = createLogger(config.log, undefined, secretsIn(config));
    for (const { key, message } of warnings) log.warn({ key }, message);
    log.info({ source }, 'configuration read');
    if (became !== undefined) log.info(became, 'goes on as the owner of its storage');
    if (rootBecause !== undefined) log.info({ reason: rootBecause }, 'goes on as root');
    const { serve } = await import('./cli/serve.js');
    const mirror = await serve(config, log);
    endOnSignal(mirror, log);
  } catch (error) {
    fail(error, log);
  }
}

/** A terminal's Ctrl-C under npm arrives twice: from the terminal, and passed on by npm. */
const sameSignalMs = 500;

/** SIGTERM drains, SIGINT (a terminal's Ctrl-C) does so without the delay; a second signal ends at once. */
function endOnSignal(mirror: RunningMirror, log: Logger): void {
  let asked: number | undefined;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (asked !== undefined) {
        if (performance.now() - asked > sameSignalMs) process.exit(exit.failed);
        return;
      }
      asked = performance.now();
      log.info({ signal }, 'asked to stop');
      mirror.drain(signal === 'SIGTERM').then(
        () => process.exit(0),
        (error: unknown) => fail(error, log),
      );
    });
  }
}

function fail(error: unknown, log: Logger | undefined): never {
  if (error instanceof ConfigError) {
    process.stderr.write(`${formatFaults(error)}\n`);
    process.exit(exit.misused);
  }
  if (error instanceof IdentityConflict) {
    process.stderr.write(`${error.message}\n`);
    process.exit(exit.misused);
  }
  if (log === undefined) process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  else log.fatal({ err: error }, 'the mirror cannot run');
  process.exit(exit.failed);
}
