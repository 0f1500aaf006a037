import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeKubeApi, type KubeObject } from '../fakes/kube-api.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { type Mirror, startMirror } from '../parts/mirror.js';

const name = 'registry-pull';
const path = '/api/v1/namespaces/mirrors/secrets';

describe.skipIf(lacks('openssl'))('credentials from pull secrets of Kubernetes', () => {
  let cleanup: AsyncDisposableStack;
  let api: FakeKubeApi;
  /** What the upstream knows. */
  let users: Record<string, string>;

  beforeEach(async () => {
    cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    api = cleanup.use(await FakeKubeApi.start(folder.path));
    users = { mirror: 'first-password' };
  });
  afterEach(() => cleanup.disposeAsync());

  async function start(): Promise<Mirror> {
    const mirror = cleanup.use(
      await startMirror({
        upstream: { users },
        // In the kubeconfig's own namespace.
        proxy: { freshness: '0s', pullsecrets: [{ namespace: 'mirrors', name: 'absent' }, { name }] },
        config: { cluster: { kubeconfig: api.kubeconfig } },
      }),
    );
    for (const tag of ['before', 'a', 'b', 'c', 'd']) {
      mirror.upstream.addImage('team/app', tag, imageOf({ layers: [randomLayer(100, tag)] }));
    }
    return mirror;
  }

  function secret(host: string, password: string): KubeObject {
    const auths = { [`http://${host}`]: { username: 'mirror', password } };
    const data = { '.dockerconfigjson': Buffer.from(JSON.stringify({ auths })).toString('base64') };
    return { metadata: { namespace: 'mirrors', name }, type: 'kubernetes.io/dockerconfigjson', data };
  }

  const pulls = async ({ url }: Mirror, tag: string) =>
    (await fetch(url(`team/app/manifests/${tag}`))).status;
  const logs = ({ cistern }: Mirror, words: string) =>
    cistern.logRecords().filter(({ msg }) => String(msg).includes(words));

  it('are those of the Secret as it is now, whatever becomes of it and of the API', async () => {
    const mirror = await start();
    const { upstream, cistern } = mirror;
    // No Secret yet: nobody in particular. The answer is remembered for a while.
    expect(await pulls(mirror, 'before')).toBe(404);
    api.put('secrets', secret(upstream.host, users['mirror'] ?? ''));
    await expect.poll(() => logs(mirror, 'pull secret read')).toHaveLength(1);
    expect(await pulls(mirror, 'a')).toBe(200);

    users['mirror'] = 'second-password';
    api.put('secrets', secret(upstream.host, 'second-password'));
    await expect.poll(() => logs(mirror, 'pull secret read')).toHaveLength(2);
    expect(await pulls(mirror, 'b')).toBe(200);

    api.put('secrets', { ...secret(upstream.host, ''), data: { '.dockerconfigjson': 'bm90IEpTT04=' } });
    await expect.poll(() => logs(mirror, 'not a pull secret')).toHaveLength(1);
    api.remove('secrets', 'mirrors', name);
    await expect.poll(() => logs(mirror, 'there is no such pull secret').length).toBe(3);
    await api.down();
    await expect.poll(() => logs(mirror, 'kubernetes cannot be asked').length).toBe(2);
    expect(await pulls(mirror, 'c')).toBe(200);

    users['mirror'] = 'third-password';
    await api.up();
    api.put('secrets', secret(upstream.host, 'third-password'));
    await expect.poll(() => logs(mirror, 'pull secret read').length).toBe(3);
    expect(await pulls(mirror, 'd')).toBe(200);
    await cistern.stop();
    expect(cistern.log()).not.toMatch(/(?:first|second|third)-password/);
    expect(cistern.log()).not.toContain('first-token');
  });

  it('are asked for by name alone, in each namespace', async () => {
    const mirror = await start();
    api.put('secrets', secret(mirror.upstream.host, 'first-password'));
    expect(await pulls(mirror, 'a')).toBe(200);
    const asked = new Set(
      api.requests.map(({ query, path: where }) => `${where} ${query.get('fieldSelector')}`),
    );
    expect([...asked].toSorted()).toEqual([`${path} metadata.name=absent`, `${path} metadata.name=${name}`]);
  });

  it('do not keep the mirror from starting; what they are for is trouble until they are known', async () => {
    api.put('secrets', secret('elsewhere.example.com', 'x'));
    await api.down();
    const mirror = await start();
    expect(await pulls(mirror, 'a')).toBe(503);
    await api.up();
    api.put('secrets', secret(mirror.upstream.host, 'first-password'));
    await expect.poll(() => pulls(mirror, 'a'), { interval: 500 }).toBe(200);
  });
});
