import { expect, describe, it } from 'vitest';
import { FakeKubeApi } from '../fakes/kube-api.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { metric } from '../parts/mirror.js';
import { type Replica, startReplicas } from '../parts/replicas.js';

describe.skipIf(lacks('redis-server', 'openssl'))('what runs, seen by several replicas', () => {
  it('is watched by one of them, and by another one when that dies', async () => {
    await using folder = await temporaryFolder();
    await using api = await FakeKubeApi.start(folder.path);
    const pod = (name: string) => ({
      metadata: { namespace: 'apps', name },
      spec: { containers: [{ image: `team/${name}:1` }] },
      status: { phase: 'Running' },
    });
    api.put('pods', pod('first'));
    const config = {
      scheduler: { inuse: { kubernetes: { enabled: true } } },
      cluster: { kubeconfig: api.kubeconfig },
    };
    await using cluster = await startReplicas({ count: 2, config: () => config });
    const looking = (replicas: readonly Replica[]) =>
      expect.poll(() => Promise.all(replicas.map((each) => metric(each, 'cistern_inuse_images'))), {
        interval: 500,
      });
    await looking(cluster.replicas).toContain(1);
    const counts = await Promise.all(cluster.replicas.map((each) => metric(each, 'cistern_inuse_images')));
    expect(counts.toSorted()).toEqual([0, 1]);
    expect(api.watches).toBe(1);

    const others = cluster.replicas.filter((_, index) => counts[index] === 0);
    cluster.replica(counts.indexOf(1)).kill('SIGKILL');
    api.put('pods', pod('second'));
    await looking(others).toContain(2);
    expect(api.watches).toBe(1);
  });
});
