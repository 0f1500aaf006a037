import { chmod, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { FakeUpstream } from '../../test/fakes/fake-upstream.js';
import type { MovableClock } from '../../test/parts/clock.js';
import type { RedisServer } from '../../test/parts/redis.js';
import { between, pick, type Random } from '../random.js';
import type { WatchedReplica } from './replicas.js';
import type { S3Front } from './s3-front.js';

export interface FaultTask {
  readonly random: Random;
  readonly replicas: readonly WatchedReplica[];
  readonly upstream: FakeUpstream;
  readonly front: S3Front;
  readonly redis: RedisServer;
  readonly redisClock: MovableClock;
  readonly note: (text: string) => void;
}

interface FaultKind {
  readonly name: string;
  cause(task: FaultTask, signal: AbortSignal): Promise<void>;
}

const pauseMs = [1_000, 4_000] as const;
const hour = 3600;
/** A replica that redirects clients needs a clock near the storage's: else the storage rejects its presigned URLs. */
const mostSecondsOfRedirecting = 240;
export const redirectingReplica = 2;

const faults: readonly FaultKind[] = [
  { name: 'a clock steps', cause: stepClock },
  { name: 'the clock of Redis steps', cause: stepRedisClock },
  { name: 'files cannot be read', cause: forbidFiles },
  { name: 'the storage is busy', cause: busyStorage },
  { name: 'the storage is slow', cause: slowStorage },
  { name: 'the upstream cuts its answers', cause: cutUpstream },
  { name: 'the upstream is slow', cause: slowUpstream },
  { name: 'Redis holds garbage', cause: garbageInRedis },
  { name: 'Redis is empty', cause: emptyRedis },
  { name: 'Redis is stopped', cause: stopRedis },
  { name: 'Redis is killed', cause: killRedis },
];

/** Causes one fault after another until the signal aborts. Returns the number of faults of each kind. */
export async function causeFaults(task: FaultTask, signal: AbortSignal): Promise<Record<string, number>> {
  const counts: Record<string, number> = Object.fromEntries(faults.map(({ name }) => [name, 0]));
  while (!signal.aborted) {
    await pause(task.random, signal);
    if (signal.aborted) break;
    const fault = pick(task.random, faults);
    counts[fault.name] = (counts[fault.name] ?? 0) + 1;
    await fault.cause(task, signal);
  }
  return counts;
}

function pause(random: Random, signal: AbortSignal): Promise<void> {
  return delay(between(random, ...pauseMs), undefined, { signal }).catch(() => undefined);
}

async function stepClock({ random, replicas, note }: FaultTask): Promise<void> {
  const replica = pick(random, replicas);
  const most = replica.index === redirectingReplica ? mostSecondsOfRedirecting : 2 * hour;
  const seconds = between(random, -most, most);
  note(`the clock of replica ${replica.index} is ${seconds} s ahead`);
  await replica.clock.ahead(seconds);
}

async function stepRedisClock({ random, redisClock, note }: FaultTask): Promise<void> {
  const seconds = pick(random, [-hour, -60, 0, 60, hour]);
  note(`the clock of Redis is ${seconds} s ahead`);
  await redisClock.ahead(seconds);
}

/** Makes some local copies and spools of one replica unreadable for some seconds. */
async function forbidFiles({ random, replicas, note }: FaultTask, signal: AbortSignal): Promise<void> {
  const replica = pick(random, replicas);
  const entries = await readdir(replica.folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && random() < 0.3)
    .map((entry) => join(entry.parentPath, entry.name));
  note(`${files.length} files of replica ${replica.index} cannot be read`);
  const change = (mode: number): Promise<unknown> =>
    Promise.all(files.map((file) => chmod(file, mode).catch(() => undefined))); // removed meanwhile
  await change(0);
  await pause(random, signal);
  await change(0o600);
}

function busyStorage({ random, front, note }: FaultTask): Promise<void> {
  front.slowDowns = between(random, 1, 4);
  note(`the storage answers ${front.slowDowns} requests with 503`);
  return Promise.resolve();
}

async function slowStorage({ random, front, note }: FaultTask, signal: AbortSignal): Promise<void> {
  front.delayMs = between(random, 50, 500);
  note(`the storage takes ${front.delayMs} ms longer`);
  await pause(random, signal);
  front.delayMs = 0;
}

function cutUpstream({ random, upstream, note }: FaultTask): Promise<void> {
  const cutAt = between(random, 1, 400_000);
  const cut = pick(random, ['close', 'reset'] as const);
  note(`the upstream cuts two answers after ${cutAt} bytes (${cut})`);
  upstream.fault({ path: /^\/v2\/honest\/.*\/blobs\//, method: 'GET', times: 2 }, { cutAt, cut });
  return Promise.resolve();
}

function slowUpstream({ random, upstream, note }: FaultTask): Promise<void> {
  const headersAfterMs = between(random, 100, 3_000);
  note(`the upstream answers three requests ${headersAfterMs} ms late`);
  upstream.fault({ path: /^\/v2\/honest\//, times: 3 }, { headersAfterMs });
  return Promise.resolve();
}

/** Writes garbage to some keys of the cluster, and gives some of them another type. */
async function garbageInRedis({ random, redis, note }: FaultTask): Promise<void> {
  const client = redis.client();
  const [, keys] = await client.scan(0, 'MATCH', 'cistern:*', 'COUNT', 1_000);
  const spoilt = keys.filter(() => random() < 0.1).slice(0, 20);
  note(`${spoilt.length} of ${keys.length} keys of Redis hold garbage`);
  for (const key of spoilt) {
    const text = pick(random, [
      '',
      'garbage',
      '{"url":"http://[::"}',
      '{"url":"not a url","size":-1}',
      '\u0000',
      '[]',
      'null',
    ]);
    if (random() < 0.7) await client.set(key, text, 'EX', 60);
    else await client.multi().del(key).rpush(key, text).expire(key, 60).exec();
  }
}

async function emptyRedis({ redis, note }: FaultTask): Promise<void> {
  note('FLUSHALL');
  await redis.client().flushall();
}

async function stopRedis({ random, redis, note }: FaultTask, signal: AbortSignal): Promise<void> {
  note('Redis is stopped');
  redis.signal('SIGSTOP');
  await pause(random, signal);
  redis.signal('SIGCONT');
}

async function killRedis({ random, redis, note }: FaultTask, signal: AbortSignal): Promise<void> {
  note('Redis is killed');
  await redis.kill();
  await pause(random, signal);
  await redis.start();
}
