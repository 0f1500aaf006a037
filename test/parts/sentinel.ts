import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis, type RedisOptions as AllOptions } from 'ioredis';
import type { CertificateFiles } from './certificates.js';
import { commandOf } from './debian.js';
import { temporaryFolder } from './folder.js';
import { freePort } from './ports.js';
import { type RunningProcess, startProcess, until, untilReady } from './process.js';
import { patience } from './patience.js';

type RedisOptions = Omit<AllOptions, 'replyMapping'>;

export interface SentinelOptions {
  /** A user of the Redis servers besides their default one, which then has a password that nobody is told. */
  readonly user?: Credentials;
  /** A user of the Sentinels, in the same way. */
  readonly sentinelUser?: Credentials;
  /** Everybody speaks TLS alone, with a certificate that is its own authority and good for 127.0.0.1. */
  readonly tls?: CertificateFiles;
  /** How many Sentinels, 3 unless told; more than half of them have to agree. */
  readonly sentinels?: number;
}

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** A Redis master with one replica, and Sentinels that watch them. */
export interface SentinelGroup extends AsyncDisposable {
  readonly mastername: string;
  /** The Sentinels, as `host:port`. */
  readonly addrs: readonly string[];
  /** Who is master by the word of every Sentinel; waits until they agree on another one than `before`. */
  agreedMaster(before?: number): Promise<number>;
  /** SIGKILL. */
  killMaster(): Promise<void>;
  /** For looking at what is in it; end it with `disconnect`. */
  connect(port: number, db?: number): Redis;
}

const mastername = 'mymaster';
const unknownPassword = 'nobody-is-told';
const downAfterMs = 1_000;
const failoverMs = 3_000;

export async function startSentinelGroup(options: SentinelOptions = {}): Promise<SentinelGroup> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const start = (title: string, lines: readonly string[], port: number, args: readonly string[] = []) =>
    startServer(join(folder.path, title), [...portLines(port, options.tls), ...lines], port, args);
  const masterPort = await freePort();
  const replicaPort = await freePort();
  const servers = new Map<number, RunningProcess>();
  for (const port of [masterPort, replicaPort]) {
    const follows = port === replicaPort ? [`replicaof 127.0.0.1 ${masterPort}`] : [];
    const lines = [...serverLines(options.user), ...follows];
    servers.set(port, cleanup.use(await start(`redis-${port}`, lines, port)));
  }
  const connect = (port: number, db = 0): Redis => newClient(port, options.tls, { db, ...options.user });
  await untilReplicating(connect, masterPort);
  const { sentinels: count = 3 } = options;
  const lines = sentinelLines(masterPort, Math.floor(count / 2) + 1, options);
  const sentinels: number[] = [];
  while (sentinels.length < count) {
    const port = await freePort();
    cleanup.use(await start(`sentinel-${port}`, lines, port, ['--sentinel']));
    sentinels.push(port);
  }
  const group: SentinelGroup = {
    mastername,
    addrs: sentinels.map((port) => `127.0.0.1:${port}`),
    agreedMaster: async (before) => {
      const asked = sentinels.map((port) => sentinelClient(port, options));
      try {
        return await agreement(asked, before);
      } finally {
        for (const client of asked) client.disconnect();
      }
    },
    killMaster: async () => {
      const master = servers.get(masterPort);
      master?.kill('SIGKILL');
      await master?.exited;
    },
    connect,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  // A failover needs Sentinels that know the replica and each other.
  await untilAcquainted(sentinels, options);
  const owned = cleanup.move();
  return group;
}

async function startServer(
  folder: string,
  lines: readonly string[],
  port: number,
  args: readonly string[],
): Promise<RunningProcess> {
  await mkdir(folder);
  const file = join(folder, 'redis.conf'); // servers and Sentinels write to it
  const own = ['bind 127.0.0.1', `dir ${folder}`];
  await writeFile(file, [...own, ...lines, ''].join('\n'), { mode: 0o600 });
  const running = await startProcess(commandOf('redis-server'), [file, ...args]);
  await untilReady(running, `redis on ${port}`, (signal) =>
    until(() => /Ready to accept connections|Sentinel ID is/.test(running.log()), signal),
  );
  return running;
}

function portLines(port: number, tls: CertificateFiles | undefined): string[] {
  if (tls === undefined) return [`port ${port}`];
  const files = [
    `tls-cert-file ${tls.certificate}`,
    `tls-key-file ${tls.key}`,
    `tls-ca-cert-file ${tls.certificate}`,
  ];
  return ['port 0', `tls-port ${port}`, ...files, 'tls-auth-clients no', 'tls-replication yes'];
}

function newClient(port: number, tls: CertificateFiles | undefined, options: RedisOptions): Redis {
  const encrypted = tls === undefined ? {} : { tls: { ca: readFileSync(tls.certificate) } };
  return new Redis({ host: '127.0.0.1', port, maxRetriesPerRequest: 1, ...encrypted, ...options });
}

function serverLines(user: Credentials | undefined): string[] {
  const plain = ['save ""', 'appendonly no', 'repl-diskless-sync-delay 0'];
  return user === undefined ? plain : [...plain, ...userLines(user), ...replicationLines(user)];
}

function userLines({ username, password }: Credentials): string[] {
  return [`requirepass ${unknownPassword}`, `user ${username} on >${password} ~* &* +@all`];
}

function replicationLines({ username, password }: Credentials): string[] {
  return [`masteruser ${username}`, `masterauth ${password}`];
}

function sentinelLines(
  masterPort: number,
  quorum: number,
  { user, sentinelUser }: SentinelOptions,
): string[] {
  const lines = [
    `sentinel monitor ${mastername} 127.0.0.1 ${masterPort} ${quorum}`,
    `sentinel down-after-milliseconds ${mastername} ${downAfterMs}`,
    `sentinel failover-timeout ${mastername} ${failoverMs}`,
  ];
  if (user !== undefined) {
    lines.push(
      `sentinel auth-user ${mastername} ${user.username}`,
      `sentinel auth-pass ${mastername} ${user.password}`,
    );
  }
  if (sentinelUser !== undefined) {
    const { username, password } = sentinelUser;
    lines.push(
      ...userLines(sentinelUser),
      `sentinel sentinel-user ${username}`,
      `sentinel sentinel-pass ${password}`,
    );
  }
  return lines;
}

function sentinelClient(port: number, { sentinelUser, tls }: SentinelOptions): Redis {
  return newClient(port, tls, { ...sentinelUser });
}

async function untilReplicating(connect: (port: number) => Redis, masterPort: number): Promise<void> {
  const master = connect(masterPort);
  try {
    const replicating = async () => /slave0:.*state=online/.test(await master.info('replication'));
    await until(replicating, patience());
  } finally {
    master.disconnect();
  }
}

async function untilAcquainted(ports: readonly number[], options: SentinelOptions): Promise<void> {
  const signal = patience();
  for (const port of ports) {
    const client = sentinelClient(port, options);
    try {
      await until(async () => {
        const facts = pairs(await client.call('SENTINEL', 'MASTER', mastername));
        return facts.get('num-slaves') === '1' && facts.get('num-other-sentinels') === `${ports.length - 1}`;
      }, signal);
    } finally {
      client.disconnect();
    }
  }
}

async function agreement(asked: readonly Redis[], before: number | undefined): Promise<number> {
  let agreed: number | undefined;
  await until(async () => {
    const answers = await Promise.all(
      asked.map((client) => client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', mastername)),
    );
    const ports = new Set((answers as [string, string][]).map(([, port]) => Number(port)));
    [agreed] = ports.size === 1 ? ports : [];
    return agreed !== undefined && agreed !== before;
  }, patience());
  return agreed ?? NaN;
}

function pairs(flat: unknown): Map<string, string> {
  const list = flat as string[];
  return new Map(list.flatMap((key, at) => (at % 2 === 0 ? [[key, list[at + 1] ?? ''] as const] : [])));
}
