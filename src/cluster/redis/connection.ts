import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { Redis, type RedisOptions as AllOptions } from 'ioredis';
import type { RedisConfig } from '../../config/config.js';
import { parseListen } from '../../config/listen.js';
import type { Secret } from '../../config/secret.js';
import { secretFile, type FileLog } from '../../config/watched-file.js';
import type { Logger } from '../../telemetry/log.js';

type RedisOptions = Omit<AllOptions, 'replyMapping'>;

const defaultBudgetMs = 100;
/** Connections are made behind the requests, so a configured 10 ms need not fail a busy process again and again. */
const shortestDialMs = 500;
const longestPauseMs = 1_000;
export const defaultPort = 6379;
export const defaultSentinelPort = 26_379;

/** How long a command may take, from the section's time-outs. */
export function commandBudget({ readtimeout, writetimeout }: RedisConfig): number {
  const given = [readtimeout, writetimeout].filter((ms) => ms !== undefined && ms > 0) as number[];
  return given.length === 0 ? defaultBudgetMs : Math.max(...given);
}

/**
 * A connection that never makes anybody wait: while it is down commands fail at once, none is queued, none is sent
 * twice. It reconnects for ever; with Sentinel to whoever is master then. Passwords and certificates in files are read
 * again before each connection. @throws where they cannot be read at the start.
 */
export function connectRedis(config: RedisConfig, name: string, log: Pick<Logger, 'warn' | 'error'>): Redis {
  const files = new RedisFiles(config, log);
  const options = optionsOf(config, name, files, (times) => {
    try {
      Object.assign(client.options, files.read());
    } catch (err) {
      // The first of a row: what was read last may still be right.
      if (times === 1) log.warn({ err, redis: name }, 'a certificate for redis cannot be read');
    }
    return pause(times);
  });
  const client: Redis = config.mastername === undefined ? single(config, options) : sentinel(config, options);
  client.on('error', () => undefined); // whoever sends a command is told; RedisLink logs the outage
  return client;
}

const pause = (times: number): number => Math.min(50 * 2 ** Math.min(times, 5), longestPauseMs);

/** What of the options is in files, as it is now. */
export class RedisFiles {
  readonly #password: (() => string) | undefined;
  readonly #sentinelPassword: (() => string) | undefined;

  constructor(
    private readonly config: RedisConfig,
    log: FileLog,
  ) {
    this.#password = secretOf(config.password, config.passwordfile, log);
    this.#sentinelPassword = secretOf(config.sentinelpassword, config.sentinelpasswordfile, log);
  }

  /** @throws the system's error. */
  read(): RedisOptions {
    const tls = tlsOptions(this.config);
    return {
      ...(this.#password === undefined ? {} : { password: this.#password() }),
      ...(this.#sentinelPassword === undefined ? {} : { sentinelPassword: this.#sentinelPassword() }),
      ...(tls === undefined ? {} : { tls }),
      ...(tls === undefined || this.config.mastername === undefined ? {} : { sentinelTLS: tls }),
    };
  }
}

function secretOf(
  given: Secret | undefined,
  path: string | undefined,
  log: FileLog,
): (() => string) | undefined {
  if (given !== undefined) return () => given.reveal();
  if (path === undefined) return undefined;
  const file = secretFile(path, log);
  return () => file.readSync();
}

function optionsOf(
  config: RedisConfig,
  name: string,
  files: RedisFiles,
  retryStrategy: (times: number) => number,
): RedisOptions {
  return {
    connectionName: `cistern-${name}`,
    db: config.db,
    connectTimeout: Math.max(config.dialtimeout ?? 0, shortestDialMs),
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy,
    // A master that was demoted says so: the next connection goes to the new one.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
    ...(config.username === undefined ? {} : { username: config.username }),
    ...files.read(),
  };
}

function single({ addrs }: RedisConfig, options: RedisOptions): Redis {
  const { host = '127.0.0.1', port } = address(addrs[0] ?? '', defaultPort);
  return new Redis({ ...options, host, port });
}

function sentinel(config: RedisConfig, options: RedisOptions): Redis {
  return new Redis({
    ...options,
    name: config.mastername ?? '',
    role: 'master',
    sentinels: config.addrs.map((addr) => {
      const { host = '127.0.0.1', port } = address(addr, defaultSentinelPort);
      return { host, port };
    }),
    sentinelRetryStrategy: pause,
    sentinelCommandTimeout: shortestDialMs,
    failoverDetector: true,
    ...(config.sentinelusername === undefined ? {} : { sentinelUsername: config.sentinelusername }),
    ...(config.tls === undefined ? {} : { enableTLSForSentinelMode: true }),
  });
}

export function address(text: string, port: number): { host?: string; port: number } {
  return parseListen(text) ?? { host: text, port };
}

function tlsOptions({ tls }: RedisConfig): ConnectionOptions | undefined {
  if (tls === undefined) return undefined;
  return {
    ...(tls.certificate === undefined ? {} : { cert: readFileSync(tls.certificate) }),
    ...(tls.key === undefined ? {} : { key: readFileSync(tls.key) }),
    ...(tls.clientcas.length === 0 ? {} : { ca: tls.clientcas.map((path) => readFileSync(path)) }),
  };
}

/** From where this host reaches Redis; `undefined` while it does not. */
export function localAddressOf(client: Redis): string | undefined {
  return (client.stream as { localAddress?: string } | undefined)?.localAddress?.replace(/^::ffff:/, '');
}
