import { readFile } from 'node:fs/promises';
import type { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import { lacks } from '../parts/debian.js';
import { busyboxImage, contentsOf } from '../parts/image.js';
import { blobOf, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { receivesAll, startReplicas } from '../parts/replicas.js';
import { patience } from '../parts/patience.js';

interface Row {
  readonly key: string;
  readonly type: string;
  readonly lifetimeMs: number;
  readonly bytes: number;
}

/** The table of docs/redis.md. */
async function documented(): Promise<Row[]> {
  const page = await readFile(new URL('../../docs/redis.md', import.meta.url), 'utf8');
  const rows = page.matchAll(/^\| `(cistern:[^`]+)` +\| (\w+) +\| (\d+) (s|h) +\| (\d+) +\|/gm);
  return [...rows].map(([, key = '', type = '', count, unit, bytes]) => ({
    key,
    type,
    lifetimeMs: Number(count) * (unit === 'h' ? 3_600_000 : 1_000),
    bytes: Number(bytes),
  }));
}

/** `cistern:{<id>}:tag:<repository>:<tag>` as a pattern for keys. */
function patternOf({ key }: Row): RegExp {
  const parts: Readonly<Record<string, string>> = {
    id: '[0-9a-z-]+',
    repository: '[a-z0-9._/-]+',
    tag: '[A-Za-z0-9._-]+',
    host: '[a-z0-9.:-]+',
    account: '[0-9a-f]{32}',
    name: '[a-z]+',
    digest: 'sha256:[0-9a-f]{64}',
  };
  return new RegExp(`^${key.replaceAll(/<(\w+)>/g, (_, name: string) => parts[name] ?? '(?!)')}$`);
}

interface Seen {
  readonly key: string;
  readonly type: string;
  readonly ttl: number;
  readonly bytes: number;
}

async function look(redis: Redis, seen: Map<string, Seen>): Promise<void> {
  for (const key of await redis.keys('*')) {
    if (seen.has(key)) continue;
    const [type, ttl, bytes] = [
      await redis.type(key),
      await redis.pttl(key),
      await redis.memory('USAGE', key),
    ];
    if (type !== 'none' && bytes !== null) seen.set(key, { key, type, ttl, bytes });
  }
}

describe.skipIf(lacks('redis-server'))('docs/redis.md', () => {
  it('has a row for every key of a pull and of a job, with its type, its lifetime and about its size', async () => {
    const rows = await documented();
    await using stage = await startReplicas({
      count: 2,
      upstream: {
        bytesPerSecond: 2_000_000,
        headers: { 'ratelimit-limit': '200;w=21600', 'ratelimit-remaining': '150;w=21600' },
      },
      proxy: { username: 'name', password: 'token' },
      config: () => ({ scheduler: { scrub: { schedule: '1s' } } }),
    });
    const { upstream, redis, replicas } = stage;
    const image = busyboxImage();
    // A lease may be there for a moment only: many tags, so that one of theirs is seen.
    const tags = Array.from({ length: 20 }, (_, n) => `v${n}`);
    for (const tag of tags) upstream.addImage('team/app', tag, image);
    const large = blobOf(8_000_000, 'long enough for every key to be seen');
    upstream.addBlob('team/app', large);
    const seen = new Map<string, Seen>();
    const over = new AbortController();
    const watching = (async () => {
      while (!over.signal.aborted) await look(redis.client(), seen);
    })();
    const pulls = replicas.flatMap((replica) => [
      ...tags.map((tag) => receivesAll(replica.v2(`team/app/manifests/${tag}`), image.manifest.bytes)),
      ...[large, ...contentsOf(image).blobs].map((blob) =>
        receivesAll(replica.v2(`team/app/blobs/${blob.digest}`), blob.bytes),
      ),
    ]);
    expect(new Set(await Promise.all(pulls))).toEqual(new Set([true]));
    await Promise.all(replicas.map((replica) => untilIdle(replica)));
    const matches = ({ key }: Seen) => rows.filter((row) => patternOf(row).test(key));
    const unseen = () => rows.filter((row) => ![...seen.keys()].some((key) => patternOf(row).test(key)));
    await until(() => unseen().length === 0, patience()).catch(() => undefined);
    over.abort();
    await watching;
    expect(unseen().map(({ key }) => key)).toEqual([]);
    expect([...seen.values()].filter((each) => matches(each).length !== 1)).toEqual([]);
    for (const each of seen.values()) {
      const [row] = matches(each);
      expect({ key: each.key, type: each.type }).toEqual({ key: each.key, type: row?.type });
      expect(each.ttl).toBeGreaterThan(0);
      expect(each.ttl).toBeLessThanOrEqual(row?.lifetimeMs ?? 0);
      expect(each.bytes).toBeLessThan(2 * (row?.bytes ?? 0));
    }
  });
});
