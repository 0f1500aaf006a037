import { Redis, type RedisOptions } from 'ioredis';
import type { RedisConfig } from '../../config/config.js';
import { address, defaultPort, defaultSentinelPort, localAddressOf, RedisFiles } from './connection.js';

const connectMs = 2_000;
const answerMs = 2_000;

/** Why a server of the `redis` section cannot be used. */
export class RedisTrouble extends Error {
  override readonly name = 'RedisTrouble';
  constructor(
    /** Redis' own word (`WRONGPASS`), or the system's (`ECONNREFUSED`). */
    readonly code: string,
    readonly server: string,
  ) {
    super(`${server}: ${code}`);
  }
}

/** There is no change of a file to tell of. */
const readOnce = { error: () => undefined };

export interface RedisFacts {
  readonly role: string;
  readonly timeMs: number;
  /** Of one question and its answer. */
  readonly tookMs: number;
  /** 0: no limit. */
  readonly maxmemory: number;
  readonly evicts: string;
  /** From where this machine reaches it. */
  readonly localAddress: string | undefined;
}

/** Looks at one Redis server. Throws RedisTrouble, and the system's error where a file cannot be read. */
export function examineRedis(config: RedisConfig, server: string, signal: AbortSignal): Promise<RedisFacts> {
  const files = new RedisFiles(config, readOnce).read();
  const user = config.username === undefined ? {} : { username: config.username };
  const { host = '127.0.0.1', port } = address(server, defaultPort);
  const client = newClient({ host, port, db: config.db, ...user, ...files });
  return using(client, server, signal, async () => {
    const began = performance.now();
    const [seconds = 0, microseconds = 0] = (await client.time()).map(Number);
    const tookMs = performance.now() - began;
    const [role] = (await client.role()) as [string];
    const memory = infoOf(await client.info('memory'));
    return {
      role,
      timeMs: seconds * 1000 + microseconds / 1000,
      tookMs,
      maxmemory: Number(memory.get('maxmemory') ?? 0),
      evicts: memory.get('maxmemory_policy') ?? 'unknown',
      localAddress: localAddressOf(client),
    };
  });
}

export interface SentinelFacts {
  /** `host:port`; `undefined`: it watches no master of that name. */
  readonly master: string | undefined;
  /** Whether as many of them as it takes to elect a new master see each other, in its words where not. */
  readonly quorum: 'reached' | string;
}

/** Asks one Sentinel. Throws RedisTrouble, and the system's error where a file cannot be read. */
export function askSentinel(
  config: RedisConfig,
  server: string,
  signal: AbortSignal,
): Promise<SentinelFacts> {
  const { sentinelPassword, sentinelTLS } = new RedisFiles(config, readOnce).read();
  const { host = '127.0.0.1', port } = address(server, defaultSentinelPort);
  const client = newClient({
    host,
    port,
    ...(config.sentinelusername === undefined ? {} : { username: config.sentinelusername }),
    ...(sentinelPassword === undefined ? {} : { password: sentinelPassword }),
    ...(sentinelTLS === undefined ? {} : { tls: sentinelTLS }),
  });
  const name = config.mastername ?? '';
  return using(client, server, signal, async () => {
    const told = (await client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name)) as [string, string] | null;
    if (told === null) return { master: undefined, quorum: 'reached' };
    const [master, masterPort] = told;
    const quorum = await client.call('SENTINEL', 'CKQUORUM', name).then(
      () => 'reached',
      (error: unknown) => wordOf(error, true),
    );
    return { master: `${master.includes(':') ? `[${master}]` : master}:${masterPort}`, quorum };
  });
}

/** One connection, which is not made a second time. */
function newClient(options: Omit<RedisOptions, 'replyMapping'>): Redis {
  return new Redis({
    ...options,
    lazyConnect: true,
    connectTimeout: connectMs,
    commandTimeout: answerMs,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    connectionName: 'cistern-doctor',
  });
}

async function using<T>(
  client: Redis,
  server: string,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  let first: unknown;
  client.on('error', (error: unknown) => (first ??= error));
  const stop = (): void => client.disconnect();
  signal.addEventListener('abort', stop, { once: true });
  try {
    await client.connect();
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    // Of a connection that is refused, ioredis tells the reason beforehand, and then only that it is closed.
    throw new RedisTrouble(wordOf(first ?? error, false), server);
  } finally {
    signal.removeEventListener('abort', stop);
    client.disconnect();
  }
}

/** The first word of what Redis answers is its code; the rest is for people, and holds no secret of ours. */
function wordOf(error: unknown, whole: boolean): string {
  if (!(error instanceof Error)) return String(error);
  if ('code' in error && typeof error.code === 'string') return error.code;
  return whole ? error.message : (/^[A-Z]{3,}/.exec(error.message)?.[0] ?? error.message);
}

function infoOf(text: string): ReadonlyMap<string, string> {
  const lines = text.split(/\r?\n/).map((line) => line.split(':', 2));
  return new Map(lines.map(([key = '', value = '']) => [key, value]));
}
