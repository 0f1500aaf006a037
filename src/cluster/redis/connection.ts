import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { Redis, type RedisOptions as AllOptions } from 'ioredis';
import type { RedisConfig } from '../../config/config.js';
import { parseListen } from '../../config/listen.js';

type RedisOptions = Omit<AllOptions, 'replyMapping'>;

const defaultBudgetMs = 100;
/** Connections are made behind the requests, so a configured 10 ms need not fail a busy process again and again. */
const shortestDialMs = 500;
const longestPauseMs = 1_000;
const defaultPort = 6379;
const defaultSentinelPort = 26_379;

/** How long a command may take, from the section's time-outs. */
export function commandBudget({ readtimeout, writetimeout }: RedisConfig): number {
  const given = [readtimeout, writetimeout].filter((ms) => ms !== undefined && ms > 0) as number[];
  return given.length === 0 ? defaultBudgetMs : Math.max(...given);
}

/**
 * A connection that never makes anybody wait: while it is down commands fail at once, none is queued, none is sent
 * twice. It reconnects for ever; with Sentinel to whoever is master then.
 */
export function connectRedis(config: RedisConfig, name: string): Redis {
  const tls = tlsOptions(config);
  const pause = (times: number): number => Math.min(50 * 2 ** Math.min(times, 5), longestPauseMs);
  const options: RedisOptions = {
    connectionName: `cistern-${name}`,
    db: config.db,
    connectTimeout: Math.max(config.dialtimeout ?? 0, shortestDialMs),
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: pause,
    // A master that was demoted says so: the next connection goes to the new one.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
    ...(config.username === undefined ? {} : { username: config.username }),
    ...(config.password === undefined ? {} : { password: config.password.reveal() }),
    ...(tls === undefined ? {} : { tls }),
  };
  const client =
    config.mastername === undefined ? single(config, options) : sentinel(config, options, pause, tls);
  client.on('error', () => undefined); // whoever sends a command is told; RedisLink logs the outage
  return client;
}

function single({ addrs }: RedisConfig, options: RedisOptions): Redis {
  const { host = '127.0.0.1', port } = address(addrs[0] ?? '', defaultPort);
  return new Redis({ ...options, host, port });
}

function sentinel(
  config: RedisConfig,
  options: RedisOptions,
  pause: (times: number) => number,
  tls: ConnectionOptions | undefined,
): Redis {
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
    ...(config.sentinelpassword === undefined ? {} : { sentinelPassword: config.sentinelpassword.reveal() }),
    ...(tls === undefined ? {} : { sentinelTLS: tls, enableTLSForSentinelMode: true }),
  });
}

function address(text: string, port: number): { host?: string; port: number } {
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
