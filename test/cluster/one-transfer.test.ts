import { afterEach, expect, it } from 'vitest';
import { blobOf, untilIdle } from '../parts/mirror.js';
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
});
