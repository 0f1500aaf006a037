import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import type { ChainableCommander, Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.js';
import { lacks } from '../parts/debian.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric, untilIdle } from '../parts/mirror.js';
import { patience } from '../parts/patience.js';
import { until } from '../parts/process.js';
import { receivesAll, type Replicas, startReplicas, warnings } from '../parts/replicas.js';

const attempt = 'a'.repeat(32);
type Write = (transaction: ChainableCommander, key: string) => ChainableCommander;
const text =
  (value: string): Write =>
  (transaction, key) =>
    transaction.set(key, value);
const recordAt = (url: string): Write => text(JSON.stringify({ url, attempt }));

describe.skipIf(lacks('redis-server'))('what another client writes to Redis', () => {
  let stage: Replicas;
  let redis: Redis;
  let prefix: string;
  const account = 'somebody';
  beforeAll(async () => {
    stage = await startReplicas({
      count: 2,
      upstream: {
        headers: { 'ratelimit-limit': '100000;w=21600', 'ratelimit-remaining': '90000;w=21600' },
        users: { [account]: 'password' },
      },
      proxy: { username: account, password: 'password', freshness: '0s' },
      config: () => ({ scheduler: { scrub: { schedule: '1s' } } }),
    });
    redis = stage.redis.client();
    const identity = await readFile(join(stage.store.root, 'cistern', 'cluster.json'), 'utf8');
    prefix = `cistern:{${(JSON.parse(identity) as { id: string }).id}}:`;
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  /** All keys that replicas read for a pull and for a job. */
  async function keysOf(repository: string, blob: Digest, manifest: Digest): Promise<string[]> {
    const budgets = await redis.keys(`${prefix}budget:*`);
    const pulled = [`blob:${blob}`, `manifest:${repository}@${manifest}`, `tag:${repository}:v1`];
    const names = [
      ...pulled.flatMap((each) => [`lease:${each}`, `leader:${each}`, `done:${each}`, `spools:${each}`]),
      ...[blob, manifest].map((digest) => `descriptor:${repository}@${digest}`),
      `tag:${repository}:v1`,
      'lease:job:scrub',
      'lease:job:content',
      'done:job:scrub',
      'since',
    ];
    return [...names.map((name) => `${prefix}${name}`), ...budgets];
  }

  const scrubbed = (): Promise<number> =>
    metric(stage.replica(0), 'cistern_job_last_run_timestamp_seconds', { name: 'scrub' });

  it.each<[string, Write]>([
    ['lists', (transaction, key) => transaction.rpush(key, 'x')],
    [
      'hashes',
      (transaction, key) => transaction.hset(key, { [attempt]: '5 http://[', began: '9'.repeat(30), x: '{' }),
    ],
    ['sets', (transaction, key) => transaction.sadd(key, 'x')],
    ['malformed records', text('{"url":')],
    ['records without an address', recordAt('http://[')],
    ['records of an address where nothing listens', recordAt('http://127.0.0.1:1')],
    ['records of a file', recordAt('file:///etc/passwd')],
    ['long strings', text('x'.repeat(10_000_000))],
    ['bytes that are no text', (transaction, key) => transaction.set(key, Buffer.from([0xff, 0, 0xfe]))],
  ])('costs no client an error and stops no job: %s', async (kind, write) => {
    const { upstream, replicas } = stage;
    const repository = `app/${kind.replaceAll(' ', '-')}`;
    const image = imageOf({ layers: [randomLayer(100, kind)] });
    const blob = blobOf(300_000, kind);
    upstream.addImage(repository, 'v1', image);
    upstream.addBlob(repository, blob);
    const { manifest } = image;
    const spoil = async (): Promise<void> => {
      for (const key of await keysOf(repository, blob.digest, manifest.digest)) {
        // A replica writes the key too: no write of its own comes between the two commands.
        await write(redis.multi().del(key), key).exec();
      }
    };
    const before = await scrubbed();
    for (const round of ['cold', 'stored']) {
      await spoil();
      const pulls = replicas.flatMap((replica) =>
        [
          ['manifests/v1', manifest.bytes],
          [`manifests/${manifest.digest}`, manifest.bytes],
          [`blobs/${blob.digest}`, blob.bytes],
        ].map(async ([path, bytes]) => [
          round,
          path,
          await receivesAll(replica.v2(`${repository}/${String(path)}`), bytes as Buffer),
        ]),
      );
      const received = await Promise.all(pulls);
      expect(received.filter(([, , isWhole]) => isWhole !== true)).toEqual([]);
      await Promise.all(replicas.map(untilIdle));
    }
    await until(async () => (await scrubbed()) > before, patience());
  });

  it('is logged once', () => {
    for (const replica of stage.replicas) {
      const lines = warnings(replica).map(({ level, msg }) => `${String(level)}: ${String(msg)}`);
      expect(lines.filter((line) => !line.startsWith('warning: '))).toEqual([]);
      // A busy machine may also log that Redis, busy with long strings, did not answer in time.
      const ignored = lines.filter((line) => line.startsWith('warning: ignored '));
      expect(ignored).toContain('warning: ignored a value of a wrong type in redis (said once)');
      expect(ignored).toEqual([...new Set(ignored)]);
    }
  });
});
