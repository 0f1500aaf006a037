import { describe, expect, it } from 'vitest';
import { lacks } from '../parts/debian.js';
import { type Image, imageOf, linuxAmd64, randomLayer } from '../parts/image.js';
import { untilIdle } from '../parts/mirror.js';
import { overlay, runCistern, type Settings } from '../parts/cistern.js';
import { until } from '../parts/process.js';
import { type Replica, type Replicas, startReplicas } from '../parts/replicas.js';
import { patience } from '../parts/patience.js';

/** Jobs come often, and what is not used goes soon, so that a test does not take a week. */
const hasty: Settings = {
  storage: { delete: { enabled: true }, cache: { blobdescriptor: 'redis' } },
  scheduler: { grace: '2s', expire: { schedule: '1s' }, reindex: { schedule: '24h' } },
};

interface Listed {
  readonly repository: string;
  readonly tag?: string;
  readonly lastUsed: string;
}

async function pull(replica: Replica, repository: string, image: Image): Promise<void> {
  const paths = ['manifests/v1', ...[image.config, ...image.layers].map(({ digest }) => `blobs/${digest}`)];
  for (const path of paths) {
    const answer = await fetch(replica.v2(`${repository}/${path}`));
    await answer.arrayBuffer();
    expect({ path, status: answer.status }).toEqual({ path, status: 200 });
  }
}

async function listed(replica: Replica): Promise<Listed[]> {
  const { code, stdout, stderr } = await runCistern(['ls', '--json', '--config', replica.configFile]);
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return JSON.parse(stdout) as Listed[];
}

const keys = ({ redis }: Replicas): Promise<string[]> => redis.client().keys('cistern:*descriptor:*');

describe.skipIf(lacks('redis-server'))('rule 4: Redis loses all it knew', () => {
  it('and what is stored, when it was used and when it expires is known all the same', async () => {
    await using cluster = await startReplicas({ count: 2, config: () => hasty, proxy: { ttl: '20s' } });
    const { upstream, redis, store } = cluster;
    const images = ['one', 'two', 'three'].map((seed) =>
      imageOf({ platform: linuxAmd64, layers: [randomLayer(300_000, seed)] }),
    );
    for (const [n, image] of images.entries()) {
      upstream.addImage(`team/app${n}`, 'v1', image);
      await pull(cluster.replica(n % 2), `team/app${n}`, image);
    }
    await Promise.all(cluster.replicas.map(untilIdle));
    const before = await listed(cluster.replica(0));
    expect(before.map(({ repository }) => repository)).toEqual(['team/app0', 'team/app1', 'team/app2']);
    expect(await redis.client().dbsize()).toBeGreaterThan(0);

    await redis.client().flushall();
    expect(await listed(cluster.replica(1))).toEqual(before);
    const catalog = await fetch(cluster.replica(1).v2('_catalog'));
    expect(await catalog.json()).toEqual({ repositories: before.map(({ repository }) => repository) });

    // One of them is used on; nothing of it goes. The others expire as if nothing had happened.
    const [used] = images;
    if (used === undefined) throw new Error('no image');
    const wanted = [used.manifest, used.config, ...used.layers].map(({ digest }) => digest).toSorted();
    const left = async (): Promise<string[]> => {
      await pull(cluster.replica(0), 'team/app0', used);
      return (await store.blobs()).toSorted();
    };
    await expect.poll(left, { interval: 200 }).toEqual(wanted);
    expect((await listed(cluster.replica(1))).map(({ repository }) => repository)).toEqual(['team/app0']);
    expect(upstream.asked({ method: 'GET', path: `/v2/team/app0/blobs/${used.config.digest}` })).toHaveLength(
      1,
    );
  });

  it('and is told again by the next replica that notices', async () => {
    // Descriptors end within the grace.
    const config = overlay(hasty, { scheduler: { grace: '5m' } });
    await using cluster = await startReplicas({ count: 2, config: () => config });
    const { upstream, redis } = cluster;
    const image = imageOf({ platform: linuxAmd64, layers: [randomLayer(300_000, 'told again')] });
    upstream.addImage('team/app', 'v1', image);
    await pull(cluster.replica(0), 'team/app', image);
    await until(async () => (await keys(cluster)).length >= 3, patience());
    const before = (await keys(cluster)).toSorted();
    await redis.client().flushall();
    await expect.poll(async () => (await keys(cluster)).toSorted()).toEqual(before);
  });
});
