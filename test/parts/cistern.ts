import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { temporaryFolder } from './folder.js';
import { freePort, waitForPort } from './ports.js';
import {
  type Output,
  type RunningProcess,
  runProcess,
  startProcess,
  untilLogged,
  untilReady,
} from './process.js';

const checkout = fileURLToPath(new URL('../..', import.meta.url));
const node = join(checkout, 'node_modules', '.bin', 'node');
const main = join(checkout, 'dist', 'main.js');

export interface CisternOptions {
  /** Laid over the settings that a test needs: loopback addresses, its own folder, no drain delay. */
  readonly config?: Settings;
  readonly env?: Readonly<Record<string, string>>;
  /** The storage's root. Kept after the end where given, so that a next instance may have it. */
  readonly root?: string;
  readonly port?: number;
  /** A command, with its arguments, that starts the program, such as one that drops capabilities. */
  readonly launcher?: readonly string[];
}

export interface Settings {
  readonly [key: string]: unknown;
}

export interface Cistern extends RunningProcess {
  readonly url: string;
  /** `127.0.0.1:port`, as in image references. */
  readonly host: string;
  readonly debugUrl: string;
  readonly root: string;
  readonly configFile: string;
  /** The log's lines that are JSON, parsed. */
  logRecords(): Settings[];
}

/** `cistern serve` as its users run it: the built program, a real process, the pinned Node. */
export async function startCistern(options: CisternOptions = {}): Promise<Cistern> {
  requireBuild();
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const root = options.root ?? join(folder.path, 'root');
  const port = options.port ?? (await freePort());
  const debugPort = await freePort();
  const config = overlay(testSettings(root, port, debugPort), options.config ?? {});
  // Two drivers are a fault, so a test's own takes the place of the folder.
  if (isSettings(options.config?.['storage']) && options.config['storage']['s3'] !== undefined) {
    config['storage'] = options.config['storage'];
  }
  const configFile = join(folder.path, 'config.yml');
  await writeFile(configFile, stringify(config));
  const [command, ...args] = [...(options.launcher ?? []), node, main, 'serve', configFile] as const;
  const running = cleanup.use(
    await startProcess(command, args, { env: cleanEnv(options.env), cwd: folder.path }),
  );
  await untilReady(running, 'cistern', async (signal) => {
    // The line first: on the port alone, somebody else might answer.
    await untilLogged(running, /listening/i, signal);
    await waitForPort(port, signal);
  });
  const owned = cleanup.move();
  const scheme = isSettings(config['http']) && config['http']['tls'] !== undefined ? 'https' : 'http';
  return {
    ...running,
    url: `${scheme}://127.0.0.1:${port}`,
    host: `127.0.0.1:${port}`,
    debugUrl: `http://127.0.0.1:${debugPort}`,
    root,
    configFile,
    logRecords: () => parseRecords(running.log()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The program run to its end: for commands, and for a `serve` that refuses its configuration. */
export function runCistern(
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {},
): Promise<Output> {
  requireBuild();
  return runProcess(node, [main, ...args], { ...options, env: cleanEnv(options.env) });
}

/** A command that is still running. */
export function startCommand(args: readonly string[]): Promise<RunningProcess> {
  requireBuild();
  return startProcess(node, [main, ...args], { env: cleanEnv({}) });
}

function requireBuild(): void {
  if (!existsSync(main)) throw new Error('dist/main.js is not there: npm run build');
}

function testSettings(root: string, port: number, debugPort: number): Settings {
  return {
    version: 0.1,
    log: { level: 'debug', formatter: 'json' },
    storage: { filesystem: { rootdirectory: root } },
    http: {
      addr: `127.0.0.1:${port}`,
      draindelay: '0s',
      debug: { addr: `127.0.0.1:${debugPort}`, prometheus: { enabled: true, path: '/metrics' } },
    },
  };
}

/** Settings of the machine that runs the tests must not leak in. */
function cleanEnv(env: Readonly<Record<string, string>> | undefined): Record<string, string | undefined> {
  const foreign = Object.keys(process.env).filter((name) =>
    /^(?:REGISTRY|OTEL|NODE_OPTIONS|VITEST)/.test(name),
  );
  return { ...Object.fromEntries(foreign.map((name) => [name, undefined])), NODE_ENV: undefined, ...env };
}

/** What `above` says, and what it leaves of `below`. */
export function overlay(below: Settings, above: Settings): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) {
    const existing = below[key];
    merged[key] = isSettings(existing) && isSettings(value) ? overlay(existing, value) : value;
  }
  return merged;
}

function isSettings(value: unknown): value is Settings {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parseRecords(log: string): Settings[] {
  return log
    .slice(0, log.lastIndexOf('\n') + 1) // the last line may still be coming
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Settings);
}
