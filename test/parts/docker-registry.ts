import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hash } from 'bcryptjs';
import { stringify } from 'yaml';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { freePort } from './ports.js';
import { type RunningProcess, runSuccessfully, startProcess, untilLogged, untilReady } from './process.js';

export interface DockerRegistryOptions {
  /** Kept after the end where given. */
  readonly root?: string;
  readonly port?: number;
  /** The storage in place of the root. */
  readonly s3?: Readonly<Record<string, unknown>>;
  readonly deletes?: boolean;
  /** User names and passwords for basic authentication. */
  readonly htpasswd?: Readonly<Record<string, string>>;
  /** See token-server.ts. */
  readonly token?: {
    readonly realm: string;
    readonly service: string;
    readonly issuer: string;
    readonly rootcertbundle: string;
  };
  /** Makes it a pull-through cache, the peer to compare with. */
  readonly proxy?: {
    readonly remoteurl: string;
    readonly username?: string;
    readonly password?: string;
  };
}

/** A line of its access log. It is written when the answer has ended. */
export interface AccessLine {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly bytes: number;
}

export interface DockerRegistry extends RunningProcess {
  readonly url: string;
  /** `127.0.0.1:port`, as in image references. */
  readonly host: string;
  readonly root: string;
  accessLog(): AccessLine[];
  /** Other users from now on, where it began with `htpasswd`. */
  changeUsers(users: Readonly<Record<string, string>>): Promise<void>;
}

// This build of it does not start where AWS_CA_BUNDLE names a bundle.
const registryEnv = { AWS_CA_BUNDLE: undefined, OTEL_TRACES_EXPORTER: 'none' };

/** Debian's docker-registry (distribution 2.8) on loopback. */
export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const root = options.root ?? join(folder.path, 'root');
  const port = options.port ?? (await freePort());
  const host = `127.0.0.1:${port}`;
  const configFile = join(folder.path, 'config.yml');
  await writeFile(configFile, stringify(await configFor(options, root, host, folder.path)));
  const running = cleanup.use(
    await startProcess(commandOf('docker-registry'), ['serve', configFile], {
      env: registryEnv,
      cwd: folder.path,
    }),
  );
  await untilReady(running, 'docker-registry', (signal) => untilLogged(running, /listening on/, signal));
  const owned = cleanup.move();
  return {
    ...running,
    url: `http://${host}`,
    host,
    root,
    accessLog: () => parseAccessLog(running.log()),
    changeUsers: async (users) => {
      await writeHtpasswd(users, folder.path);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/**
 * Its `garbage-collect` over a store that nobody serves meanwhile; what it says. Fails where it ends with an error.
 */
export async function collectGarbage(root: string, args: readonly string[] = []): Promise<string> {
  await using folder = await temporaryFolder();
  const configFile = join(folder.path, 'config.yml');
  await writeFile(
    configFile,
    stringify(await configFor({ deletes: true }, root, '127.0.0.1:0', folder.path)),
  );
  return await runSuccessfully(commandOf('docker-registry'), ['garbage-collect', ...args, configFile], {
    env: registryEnv,
    cwd: folder.path,
  });
}

async function configFor(options: DockerRegistryOptions, root: string, host: string, folder: string) {
  const { htpasswd, token, proxy } = options;
  return {
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: false } },
    storage: {
      ...(options.s3 === undefined ? { filesystem: { rootdirectory: root } } : { s3: options.s3 }),
      delete: { enabled: options.deletes ?? false },
    },
    http: { addr: host, secret: 'only-for-tests' },
    ...(htpasswd === undefined
      ? {}
      : { auth: { htpasswd: { realm: 'test', path: await writeHtpasswd(htpasswd, folder) } } }),
    ...(token === undefined ? {} : { auth: { token } }),
    ...(proxy === undefined ? {} : { proxy }),
  };
}

/** Writes a file of bcrypt entries into the folder and returns its path. */
export async function writeHtpasswd(
  users: Readonly<Record<string, string>>,
  folder: string,
): Promise<string> {
  const lines = await Promise.all(
    Object.entries(users).map(async ([name, password]) => `${name}:${await hash(password, 4)}`),
  );
  const path = join(folder, 'htpasswd');
  await writeFile(path, `${lines.join('\n')}\n`);
  return path;
}

const accessLine = /^\S+ - \S* ?\[[^\]]*\] "([A-Z]+) (\S+) HTTP\/[\d.]+" (\d{3}) (\d+)/;

function parseAccessLog(log: string): AccessLine[] {
  return log.split('\n').flatMap((line) => {
    const match = accessLine.exec(line);
    if (match === null) return [];
    const [, method = '', path = '', status, bytes] = match;
    return [{ method, path, status: Number(status), bytes: Number(bytes) }];
  });
}
