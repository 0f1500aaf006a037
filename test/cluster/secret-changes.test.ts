import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { blobOf, untilIdle } from '../parts/mirror.js';
import { receivesAll, type Replica, roles, startReplicas } from '../parts/replicas.js';

const size = 6 * 1024 * 1024;

describe.skipIf(lacks('redis-server'))("the cluster's secret in a file", () => {
  it('changes at one replica after the other, and they go on reading each other', async () => {
    await using folder = await temporaryFolder();
    const fileOf = (index: number): string => join(folder.path, `secret-${index}`);
    const put = async (index: number, secret: string): Promise<void> => {
      await writeFile(`${fileOf(index)}.new`, secret);
      await rename(`${fileOf(index)}.new`, fileOf(index));
    };
    for (const index of [0, 1]) await put(index, 'the first secret');
    await using cluster = await startReplicas({
      count: 2,
      upstream: { bytesPerSecond: 6_000_000 },
      config: (index) => ({ cluster: { secretfile: fileOf(index) } }),
    });
    const { upstream, replicas } = cluster;
    const [one, other] = [cluster.replica(0), cluster.replica(1)];

    async function follows(leader: Replica, follower: Replica, title: string): Promise<void> {
      const blob = blobOf(size, title);
      const path = `app/blobs/${blob.digest}`;
      upstream.addBlob('app', blob);
      const before = await roles(replicas);
      const first = receivesAll(leader.v2(path), blob.bytes);
      await upstream.until(() => upstream.bytesSent({ path: `/v2/${path}` }) > 0);
      expect([await receivesAll(follower.v2(path), blob.bytes), await first]).toEqual([true, true]);
      await Promise.all(replicas.map(untilIdle));
      expect({ title, ...(await roles(replicas)) }).toEqual({
        ...before,
        title,
        lead: before.lead + 1,
        follow: before.follow + 1,
      });
      expect(upstream.asked({ method: 'GET', path: `/v2/${path}` })).toHaveLength(1);
    }

    await follows(one, other, 'before');
    await put(0, 'the second secret');
    await follows(one, other, 'by who has not seen it yet');
    await follows(other, one, 'by who has seen it');
    await put(1, 'the second secret');
    await follows(other, one, 'after');
    await follows(one, other, 'after, the other way');
    for (const replica of replicas) {
      await expect.poll(() => replica.log()).toContain('the secret of the cluster has changed');
      expect(replica.log()).not.toMatch(/the (?:first|second) secret/);
    }
  });
});
