import { afterEach, expect, it } from 'vitest';
import { SlowClient } from '../fakes/slow-client.js';
import { blobOf, sha256, untilIdle } from '../parts/mirror.js';
import { receivesAll, type Replicas, roles, startReplicas, warnings } from '../parts/replicas.js';
import { describeOverStores, expectUnfinished } from '../parts/stores.js';

const size = 32 * 1024 * 1024;

describeOverStores('one transfer for all replicas', ['redis-server'], (newStore) => {
  let cluster: Replicas;
  afterEach(() => cluster[Symbol.asyncDispose]());

  it('gives 24 clients of 3 replicas a cold blob with one request', async () => {
    cluster = await startReplicas({ newStore, count: 3, upstream: { bytesPerSecond: 10_000_000 } });
    const { upstream, replicas, replica, store } = cluster;
    const blob = blobOf(size, 'herd of replicas');
    const path = `herd/blobs/${blob.digest}`;
    upstream.addBlob('herd', blob);

    const right = await Promise.all(
      Array.from({ length: 24 }, (_, n) => receivesAll(replica(n % 3).v2(path), blob.bytes)),
    );
    expect(right).toEqual(Array.from({ length: 24 }, () => true));
    expect(upstream.asked({ method: 'GET', path: `/v2/${path}` })).toEqual([
      expect.objectContaining({ state: 'complete', bodyBytes: size }),
    ]);
    await Promise.all(replicas.map(untilIdle));
    expect(await roles(replicas)).toEqual({ lead: 1, follow: 2, alone: 0, takeover: 0 });
    expect(await store.blobs()).toEqual([blob.digest]);
    await expectUnfinished(store);
    expect(replicas.flatMap(warnings)).toEqual([]);
  });

  it('gives 100 clients of 4 replicas an image of 12 layers with one request each', async () => {
    cluster = await startReplicas({ newStore, count: 4, upstream: { bytesPerSecond: 5_000_000 } });
    const { upstream, replicas, replica, store } = cluster;
    const layers = Array.from({ length: 12 }, (_, n) => blobOf(600_000 + n, `layer ${n}`));
    for (const layer of layers) upstream.addBlob('image', layer);

    // As containerd does: three layers at once.
    const pull = async (n: number): Promise<boolean> => {
      const right: boolean[] = [];
      const queue = [...layers];
      const worker = async (): Promise<void> => {
        for (let layer = queue.shift(); layer !== undefined; layer = queue.shift()) {
          right.push(await receivesAll(replica(n % 4).v2(`image/blobs/${layer.digest}`), layer.bytes));
        }
      };
      await Promise.all([worker(), worker(), worker()]);
      return right.every(Boolean);
    };
    const right = await Promise.all(Array.from({ length: 100 }, (_, n) => pull(n)));
    expect(right).toEqual(Array.from({ length: 100 }, () => true));
    for (const layer of layers) {
      const asked = upstream.asked({ method: 'GET', path: `/v2/image/blobs/${layer.digest}` });
      expect(asked).toEqual([expect.objectContaining({ bodyBytes: layer.size })]);
    }
    await Promise.all(replicas.map(untilIdle));
    expect((await store.blobs()).toSorted()).toEqual(layers.map(({ digest }) => digest).toSorted());
    await expectUnfinished(store);
    expect(replicas.flatMap(warnings)).toEqual([]);
  });

  it('serves a blob to 100 repositories that wait at two replicas by one request to the upstream', async () => {
    cluster = await startReplicas({ newStore, count: 2 });
    const { upstream, replicas, replica } = cluster;
    const blob = blobOf(1_000_000, 'in many repositories');
    // All names together need three times the space of a message between replicas.
    const names = Array.from({ length: 100 }, (_, n) => `team/${'r'.repeat(120)}${n}`);
    const paths = names.map((name) => `${name}/blobs/${blob.digest}`);
    for (const name of names) upstream.addBlob(name, blob);
    const served = Promise.withResolvers<void>();
    upstream.fault({ path: `/v2/${paths[0]}`, nth: 1 }, { stallAt: 500_000, until: served.promise });

    const waiting: SlowClient[] = [];
    const wait = async (index: number, some: readonly string[]): Promise<void> => {
      const clients = some.map((path) => new SlowClient(replica(index).v2(path)));
      waiting.push(...clients);
      await Promise.all(clients.map((client) => client.received(1)));
    };
    await wait(0, paths.slice(0, 1));
    await wait(0, paths.slice(1, 50));
    await wait(1, paths.slice(50));
    served.resolve();
    const received = await Promise.all(waiting.map(({ finished }) => finished));
    for (const each of received) {
      expect(each).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    }
    const asked = paths.flatMap((path) => upstream.asked({ method: 'GET', path: `/v2/${path}` }));
    expect(asked).toHaveLength(1);
    await Promise.all(replicas.map(untilIdle));
    expect(await roles(replicas)).toEqual({ lead: 1, follow: 1, alone: 0, takeover: 0 });
    expect(replicas.flatMap(warnings)).toEqual([]);
  });
});
