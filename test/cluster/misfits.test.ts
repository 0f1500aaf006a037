import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { receive, SlowClient } from '../fakes/slow-client.js';
import type { Settings } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { type Content, imageOf, layerOf } from '../parts/image.js';
import { blobOf, sha256, untilIdle } from '../parts/mirror.js';
import { freePort } from '../parts/ports.js';
import { startRedis } from '../parts/redis.js';
import { receivesAll, type Replica, startReplica, startReplicas, warnings } from '../parts/replicas.js';
import { describeOverStores, expectUnfinished, type NewStore } from '../parts/stores.js';
import { LinkProxy } from '../fakes/link-proxy.js';

const size = 1_000_000;

let cleanup: AsyncDisposableStack;
beforeEach(() => {
  cleanup = new AsyncDisposableStack();
});
afterEach(() => cleanup.disposeAsync());

/** Two replicas on one store; the settings are the second one's. */
async function startPair(odds: Settings, newStore?: NewStore) {
  const { upstream, store, replica } = cleanup.use(
    await startReplicas({
      ...(newStore === undefined ? {} : { newStore }),
      count: 2,
      config: (index) => (index === 0 ? {} : { cluster: odds }),
    }),
  );
  const [good, odd] = [replica(0), replica(1)];
  /**
   * A cold blob: `leader` has begun with it when the other one is asked, and stands still until that one has it.
   */
  const pull = async (leader: Replica, other: Replica, seed: string): Promise<Content> => {
    const blob = blobOf(size, seed);
    const path = `app/blobs/${blob.digest}`;
    upstream.addBlob('app', blob);
    const served = Promise.withResolvers<void>();
    upstream.fault({ path: `/v2/${path}`, nth: 1 }, { stallAt: size / 2, until: served.promise });
    const first = new SlowClient(leader.v2(path));
    await first.received(1);
    const right = await Promise.all([1, 2].map(() => receivesAll(other.v2(path), blob.bytes)));
    expect(right).toEqual([true, true]);
    served.resolve();
    expect(await first.finished).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    await Promise.all([good, odd].map(untilIdle));
    return blob;
  };
  const asked = ({ digest }: Content): number =>
    upstream.asked({ method: 'GET', path: `/v2/app/blobs/${digest}` }).length;
  return { store, good, odd, pull, asked };
}
const said = (replica: Replica): unknown[] => warnings(replica).map(({ msg }) => msg);

describeOverStores('of replicas that cannot work together', ['redis-server'], (newStore) => {
  it('one with a wrong secret fetches for itself; each side says so once', async () => {
    const { store, good, odd, pull, asked } = await startPair({ secret: 'not that of the others' }, newStore);
    for (const n of [1, 2]) {
      expect(asked(await pull(good, odd, `led by the good one ${n}`))).toBe(2);
      expect(asked(await pull(odd, good, `led by the odd one ${n}`))).toBe(2);
    }
    // Neither replica accepts the other's values in Redis, so neither asks the other for bytes.
    for (const replica of [good, odd]) {
      const lines = said(replica);
      expect(lines).toContain('ignored a leader value in redis without proof of the secret (logged once)');
      expect(new Set(lines).size).toBe(lines.length);
      for (const line of lines) expect(line).toMatch(/^ignored a \w+ value in redis without proof/);
    }
    // Each of them was stored twice.
    expect(await store.blobs()).toHaveLength(4);
    await expectUnfinished(store);
  });
});

describe.skipIf(lacks('redis-server'))('of replicas that cannot work together', () => {
  it('one that advertises where nobody listens is not waited for again; that is said once', async () => {
    const { good, odd, pull, asked } = await startPair({ advertise: `http://127.0.0.1:${await freePort()}` });
    for (const n of [1, 2, 3]) expect(asked(await pull(odd, good, `unreachable ${n}`))).toBe(2);
    expect(said(good)).toEqual(['a replica cannot be read']);
    expect(said(odd)).toEqual([]);
  });

  it('one whose address swallows everything costs no client an error', async () => {
    const silent = cleanup.use(await LinkProxy.start({ target: 'http://127.0.0.1:1' }));
    silent.inject({ delayMs: 600_000 });
    const { good, odd, pull, asked } = await startPair({ advertise: silent.url });
    for (const n of [1, 2]) expect(asked(await pull(odd, good, `swallowed ${n}`))).toBe(2);
    expect(said(good)).toEqual(['a replica cannot be read']);
  });

  it('two unrelated mirrors on one Redis database stay apart', async () => {
    const redis = cleanup.use(await startRedis());
    const mirrors = await Promise.all(
      ['one', 'two'].map(async (name) => {
        const folder = cleanup.use(await temporaryFolder());
        const upstream = cleanup.use(await FakeUpstream.start());
        const image = imageOf({ layers: [layerOf({ name: `of mirror ${name}` })] });
        upstream.addImage('app', 'latest', image);
        const root = `${folder.path}/root`;
        const replica = await startReplica(cleanup, { root, redis, remoteurl: upstream.url, index: 0 });
        return { upstream, image, replica };
      }),
    );
    const shared = blobOf(size, 'both have it');
    for (const { upstream } of mirrors) upstream.addBlob('app', shared);
    await Promise.all(
      mirrors.map(async ({ upstream, image, replica }) => {
        const manifest = await receive(replica.v2('app/manifests/latest'));
        expect(manifest).toMatchObject({ status: 200, sha256: sha256(image.manifest.bytes) });
        for (const blob of [image.config, ...image.layers, shared]) {
          expect(await receivesAll(replica.v2(`app/blobs/${blob.digest}`), blob.bytes)).toBe(true);
          expect(upstream.asked({ method: 'GET', path: `/v2/app/blobs/${blob.digest}` })).toHaveLength(1);
        }
        await untilIdle(replica);
        expect(warnings(replica)).toEqual([]);
      }),
    );
    const keys = await redis.client().keys('*');
    const owners = new Set(keys.map((key) => /^cistern:\{([^}]+)\}:/.exec(key)?.[1]));
    expect([...owners].toSorted()).toHaveLength(2);
    expect(owners).not.toContain(undefined);
  });
});
