import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receive } from '../fakes/slow-client.js';
import { lacks } from '../parts/debian.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric, untilIdle } from '../parts/mirror.js';
import { patience } from '../parts/patience.js';
import { until } from '../parts/process.js';
import { startReplicas, type Replicas } from '../parts/replicas.js';

/** The upstream has these only in `a/secret`. */
const blob = blobOf(100_000, 'secret');
const image = imageOf({ layers: [randomLayer(100, 'secret image')] });
const { manifest } = image;

describe.skipIf(lacks('redis-server'))('a value that a client without the secret writes to Redis', () => {
  let stage: Replicas;
  let redis: Redis;
  let prefix: string;
  beforeAll(async () => {
    stage = await startReplicas({ count: 1 });
    redis = stage.redis.client();
    const { upstream } = stage;
    const replica = stage.replica(0);
    upstream.addBlob('a/secret', blob);
    upstream.addImage('a/secret', 'v1', image);
    upstream.addBlob('b/public', blobOf(10, 'public'));
    for (const what of [`blobs/${blob.digest}`, 'manifests/v1', `manifests/${manifest.digest}`]) {
      const { status } = await receive(replica.v2(`a/secret/${what}`));
      if (status !== 200) throw new Error(`${what}: ${status}`);
    }
    await untilIdle(replica);
    const wanted = [
      `descriptor:a/secret@${blob.digest}`,
      `descriptor:a/secret@${manifest.digest}`,
      'tag:a/secret:v1',
    ];
    const present = async (): Promise<string[]> => {
      const keys = await redis.keys('*');
      return wanted.filter((name) => keys.some((key) => key.endsWith(name)));
    };
    await until(async () => (await present()).length === wanted.length, patience());
    const [known = ''] = await redis.keys(`*${wanted[0] ?? ''}`);
    prefix = known.slice(0, known.indexOf('descriptor:'));
  });
  afterAll(() => stage[Symbol.asyncDispose]());

  const content = [
    ['blob', 'blobs', blob.digest, `${blob.bytes.byteLength} ${blob.digest} application/octet-stream`],
    [
      'manifest',
      'manifests',
      manifest.digest,
      `${manifest.bytes.byteLength} ${manifest.digest} ${manifest.mediaType}`,
    ],
  ] as const;

  it.each(content)('does not open a private %s', async (kind, path, digest, descriptor) => {
    await redis.set(`${prefix}descriptor:b/set-${kind}@${digest}`, descriptor, 'EX', 3600);
    expect((await receive(stage.replica(0).v2(`b/set-${kind}/${path}/${digest}`))).status).toBe(404);
    expect(stage.upstream.asked({ path: `/v2/b/set-${kind}/${path}/${digest}` }).length).toBeGreaterThan(0);
  });

  it.each(content)(
    'does not open a private %s if it is a copy of the value of another repository',
    async (kind, path, digest) => {
      await redis.copy(
        `${prefix}descriptor:a/secret@${digest}`,
        `${prefix}descriptor:b/copy-${kind}@${digest}`,
      );
      expect((await receive(stage.replica(0).v2(`b/copy-${kind}/${path}/${digest}`))).status).toBe(404);
      expect(stage.upstream.asked({ path: `/v2/b/copy-${kind}/${path}/${digest}` }).length).toBeGreaterThan(
        0,
      );
    },
  );

  it('has no effect on a tag: the replica asks the upstream', async () => {
    const [seconds = ''] = await redis.time();
    const began = `${Number(seconds) * 1000}`;
    const descriptor = `${manifest.bytes.byteLength} ${manifest.digest} ${manifest.mediaType}`;
    await redis.hset(`${prefix}tag:b/set-tag:v1`, { began, descriptor });
    await redis.copy(`${prefix}tag:a/secret:v1`, `${prefix}tag:b/copy-tag:v1`);
    for (const repository of ['b/set-tag', 'b/copy-tag']) {
      const answer = await fetch(stage.replica(0).v2(`${repository}/manifests/v1`), { method: 'HEAD' });
      expect([answer.status, answer.headers.get('docker-content-digest')]).toEqual([404, null]);
      expect(stage.upstream.asked({ path: `/v2/${repository}/manifests/v1` }).length).toBeGreaterThan(0);
    }
  });

  it('is counted by kind, and logged once for each kind', async () => {
    for (const kind of ['descriptor', 'tag']) {
      expect(await metric(stage.replica(0), 'cistern_redis_refused_values_total', { kind })).toBeGreaterThan(
        1,
      );
      const lines = stage
        .replica(0)
        .log()
        .match(new RegExp(`ignored a ${kind} value in redis`, 'g'));
      expect(lines).toHaveLength(1);
    }
  });
});
