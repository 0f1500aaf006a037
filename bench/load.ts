import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { commandOf } from '../test/parts/debian.js';

const run = promisify(execFile);
const wrkReport = fileURLToPath(new URL('wrk-report.lua', import.meta.url));
/** A registry gives an OCI manifest only to who accepts it. */
const accept = 'application/vnd.oci.image.manifest.v1+json';

export interface LoadOptions {
  readonly seconds: number;
  readonly connections: number;
}

export interface Load {
  /** Answered in all. */
  readonly requests: number;
  /** Headers included; `undefined` where there are no bodies. */
  readonly bytes: number | undefined;
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number | undefined;
}

/** GET requests by wrk, each connection the next when the last is answered. Throws when one of them fails. */
export async function loadGet(url: string, options: LoadOptions, signal: AbortSignal): Promise<Load> {
  const { seconds, connections } = options;
  const { stdout } = await run(
    commandOf('wrk'),
    [
      '--threads=1',
      `--connections=${connections}`,
      `--duration=${seconds}s`,
      '--timeout=60s',
      `--header=Accept: ${accept}`,
      `--script=${wrkReport}`,
      url,
    ],
    { signal, timeout: timeoutMs(seconds) },
  );
  const report = /^REPORT (.*)$/m.exec(stdout)?.[1];
  if (report === undefined) throw new Error(`wrk reported nothing on ${url}\n${stdout}`);
  const { requests, bytes, microseconds, errors } = JSON.parse(report) as Record<string, number>;
  if (requests === undefined || bytes === undefined || microseconds === undefined || errors !== 0) {
    throw new Error(`wrk on ${url}: ${report}`);
  }
  const measured = microseconds / 1_000_000;
  return { requests, bytes, requestsPerSecond: requests / measured, bytesPerSecond: bytes / measured };
}

/** HEAD requests by hey, for wrk would wait for bodies. Throws when one of them fails. */
export async function loadHead(url: string, options: LoadOptions, signal: AbortSignal): Promise<Load> {
  const { seconds, connections } = options;
  const { stdout } = await run(
    commandOf('hey'),
    ['-m', 'HEAD', '-z', `${seconds}s`, '-c', `${connections}`, '-A', accept, url],
    { signal, timeout: timeoutMs(seconds) },
  );
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1];
  const [answers, ...others] = stdout.matchAll(/^\s*\[(\d{3})\]\s+(\d+) responses$/gm);
  const clean = answers?.[1] === '200' && others.length === 0 && !stdout.includes('Error distribution');
  if (rate === undefined || !clean) throw new Error(`hey on ${url}:\n${stdout}`);
  return {
    requests: Number(answers[2]),
    bytes: undefined,
    requestsPerSecond: Number(rate),
    bytesPerSecond: undefined,
  };
}

/**
 * GET requests by hey at no more than a given rate, on as many connections. Returns the time within which 99 of 100 were
 * answered, in milliseconds. Throws when one of them fails.
 */
export async function latencyAt(
  url: string,
  requestsPerSecond: number,
  { seconds, connections }: LoadOptions,
  signal: AbortSignal,
): Promise<number> {
  const each = Math.max(1, Math.round(requestsPerSecond / connections));
  const { stdout } = await run(
    commandOf('hey'),
    ['-z', `${seconds}s`, '-c', `${connections}`, '-q', `${each}`, '-A', accept, url],
    { signal, timeout: timeoutMs(seconds) },
  );
  // Of fewer than a hundred requests hey tells no such time; it is then that of the slowest.
  const p99 = (/^\s*99% in ([\d.]+) secs$/m.exec(stdout) ??
    /^\s*Slowest:\s+([\d.]+) secs$/m.exec(stdout))?.[1];
  if (p99 === undefined || stdout.includes('Error distribution'))
    throw new Error(`hey on ${url}:\n${stdout}`);
  return Number(p99) * 1000;
}

/** Answers that are under way at the end of the time are waited for. */
function timeoutMs(seconds: number): number {
  return (seconds + 90) * 1000;
}
