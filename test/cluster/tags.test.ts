import { afterEach, expect, it } from 'vitest';
import { receive } from '../fakes/slow-client.js';
import { imageOf, layerOf } from '../parts/image.js';
import { sha256 } from '../parts/mirror.js';
import { type Replicas, startReplicas } from '../parts/replicas.js';
import { describeOverStores } from '../parts/stores.js';

const clients = 300;
const image = imageOf({ layers: [layerOf({ file: 'one' })] });
const moved = imageOf({ layers: [layerOf({ file: 'two' })] });
const path = 'app/manifests/latest';

describeOverStores('a tag that all replicas are asked for', ['redis-server'], (newStore) => {
  let cluster: Replicas;
  afterEach(() => cluster[Symbol.asyncDispose]());

  async function ask(times: number): Promise<string[]> {
    const answers = await Promise.all(
      Array.from({ length: times }, (_, n) => receive(cluster.replica(n % 3).v2(path))),
    );
    return [...new Set(answers.map(({ status, sha256 }) => `${status} ${sha256}`))];
  }
  const heads = (): number => cluster.upstream.asked({ method: 'HEAD', path: `/v2/${path}` }).length;
  const gets = (): number => cluster.upstream.asked({ method: 'GET', path: /manifests/ }).length;

  it('is asked about once for 300 clients', async () => {
    cluster = await startReplicas({ newStore, count: 3, proxy: { freshness: '10m' } });
    cluster.upstream.addImage('app', 'latest', image);
    const right = [`200 ${sha256(image.manifest.bytes)}`];
    expect(await ask(clients)).toEqual(right);
    expect(await ask(clients)).toEqual(right);
    expect({ heads: heads(), gets: gets() }).toEqual({ heads: 1, gets: 1 });
  });

  it('is asked about once in each time of freshness', async () => {
    const freshnessMs = 1000;
    cluster = await startReplicas({ newStore, count: 3, proxy: { freshness: `${freshnessMs}ms` } });
    const { upstream } = cluster;
    upstream.addImage('app', 'latest', image);
    const began = performance.now();
    expect(await ask(clients)).toEqual([`200 ${sha256(image.manifest.bytes)}`]);
    while (heads() < 3) await ask(60);
    const windows = Math.floor((performance.now() - began) / freshnessMs) + 1;
    expect(heads()).toBeLessThanOrEqual(windows);
    expect(gets()).toBe(1);

    // Where it moves, all of them see it once the freshness has passed, with one transfer.
    upstream.addImage('app', 'latest', moved);
    const seen = heads();
    while (heads() < seen + 2) await ask(30);
    expect(await ask(clients)).toEqual([`200 ${sha256(moved.manifest.bytes)}`]);
    expect(gets()).toBe(2);
  });
});
