import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseTag, type Repository } from '../../src/oci/name.js';
import { tagCurrentPath } from '../../src/storage/layout.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { busyboxImage, randomLayer } from '../parts/image.js';
import { startRedis } from '../parts/redis.js';
import { receivesAll, startReplica } from '../parts/replicas.js';

describe.skipIf(lacks('redis-server'))('a tag that moves', () => {
  it('is not turned back by a replica that slept while it asked', async () => {
    await using cleanup = new AsyncDisposableStack();
    const root = cleanup.use(await temporaryFolder()).path;
    const upstream = cleanup.use(await FakeUpstream.start());
    const redis = cleanup.use(await startRedis());
    // Redis orders the answers, so it gets the time for that on a busy machine too.
    const config = () => ({ redis: { addr: redis.addr, readtimeout: '10s' } });
    const options = { root, redis, config, remoteurl: upstream.url, proxy: { freshness: '200ms' } };
    const sleeper = await startReplica(cleanup, { ...options, index: 0 });
    const other = await startReplica(cleanup, { ...options, index: 1 });
    const [old, moved] = ['old', 'new'].map((seed) => busyboxImage({ layers: [randomLayer(1000, seed)] }));
    if (old === undefined || moved === undefined) throw new Error('two images');
    const path = 'team/app/manifests/v1';
    const head = { method: 'HEAD', path: `/v2/${path}` };
    upstream.addImage('team/app', 'v1', old);
    const answered = Promise.withResolvers<void>();
    upstream.fault({ ...head, times: 1 }, { headersAfter: answered.promise });
    const slow = receivesAll(sleeper.v2(path), old.manifest.bytes);
    await upstream.until(() => upstream.asked(head).length === 1);
    sleeper.kill('SIGSTOP'); // with the question sent
    answered.resolve();
    upstream.addImage('team/app', 'v1', moved);
    // Its lease ends, and the other one asks later.
    expect(await receivesAll(other.v2(path), moved.manifest.bytes)).toBe(true);
    sleeper.kill('SIGCONT');
    await slow.catch(() => undefined);
    const tag = parseTag('v1');
    if (tag === undefined) throw new Error('a tag');
    const stored = () => readFile(join(root, tagCurrentPath('team/app' as Repository, tag)), 'utf8');
    await expect.poll(stored).toBe(moved.manifest.digest);
    for (const replica of [sleeper, other]) {
      expect(await receivesAll(replica.v2(path), moved.manifest.bytes)).toBe(true);
    }
    expect(await stored()).toBe(moved.manifest.digest);
  });
});
