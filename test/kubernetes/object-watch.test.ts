import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApiClient } from '../../src/kubernetes/api-client.js';
import { ObjectWatch } from '../../src/kubernetes/object-watch.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { FakeKubeApi, type KubeObject } from '../fakes/kube-api.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';

const pods = '/api/v1/pods';

function pod(name: string, image: string, phase = 'Running'): KubeObject {
  return { metadata: { name, namespace: 'apps' }, spec: { image }, status: { phase } };
}

describe.skipIf(lacks('openssl'))('watching objects of Kubernetes', () => {
  let cleanup: AsyncDisposableStack;
  let api: FakeKubeApi;
  let metrics: Metrics;
  let logged: { level: number; msg: string; err?: { code: string } }[];
  /** What is known, by namespace and name. */
  let known: Map<string, unknown>;

  beforeEach(async () => {
    cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    api = cleanup.use(await FakeKubeApi.start(folder.path));
    metrics = new Metrics();
    logged = [];
    known = new Map();
  });
  afterEach(() => cleanup.disposeAsync());

  function watch(): void {
    const stopping = new AbortController();
    const write = (line: string): void => void logged.push(JSON.parse(line) as (typeof logged)[number]);
    const objects = new ObjectWatch<unknown>({
      api: new ApiClient(api.kubeconfig),
      path: pods,
      fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed',
      resource: 'pods',
      read: ({ spec }) => (spec as { image: string }).image,
      listed: (all) => void (known = all),
      changed: (name, image) => void (image === undefined ? known.delete(name) : known.set(name, image)),
      log: pino({ serializers: { err: ({ code }: { code: string }) => ({ code }) } }, { write }),
      metrics,
    });
    const done = objects.run(stopping.signal);
    cleanup.defer(async () => {
      stopping.abort();
      await done;
    });
  }

  const images = () => expect.poll(() => Object.fromEntries(known));
  const watching = () => expect.poll(() => api.watches).toBe(1);
  const warnings = () => logged.filter(({ level }) => level === 40);

  it('lists them page by page, then follows each change', async () => {
    for (let n = 0; n < 600; n += 1) api.put('pods', pod(`pod-${n}`, `app:${n}`));
    api.put('pods', pod('ended', 'job:1', 'Succeeded'));
    watch();
    await watching();
    expect(known.size).toBe(600);
    expect(api.lists(pods).map(({ query }) => [query.get('limit'), query.has('continue')])).toEqual([
      ['250', false],
      ['250', true],
      ['250', true],
    ]);
    for (let n = 1; n < 600; n += 1) api.remove('pods', 'apps', `pod-${n}`);
    api.put('pods', pod('pod-0', 'app:new'));
    api.put('pods', pod('another', 'other:1'));
    await images().toEqual({ 'apps/pod-0': 'app:new', 'apps/another': 'other:1' });
    api.put('pods', pod('another', 'other:1', 'Failed'));
    await images().toEqual({ 'apps/pod-0': 'app:new' });
    expect(api.lists(pods)).toHaveLength(3);
  });

  it('goes on from the last event where a watch ends or is cut, without another list and without a word', async () => {
    api.put('pods', pod('one', 'app:1'));
    watch();
    await watching();
    api.put('pods', pod('two', 'app:2'));
    await images().toMatchObject({ 'apps/two': 'app:2' });
    api.endWatches();
    api.put('pods', pod('three', 'app:3'));
    await images().toMatchObject({ 'apps/three': 'app:3' });
    await watching();
    api.cutWatches();
    api.remove('pods', 'apps', 'one');
    await images().toEqual({ 'apps/two': 'app:2', 'apps/three': 'app:3' });
    expect(api.lists(pods)).toHaveLength(1);
    expect(warnings()).toEqual([]);
  });

  it('goes on from a bookmark, though all before it is gone', async () => {
    api.put('pods', pod('one', 'app:1'));
    watch();
    await watching();
    api.compact();
    api.bookmark();
    await delay(200); // it is on its way; without it the next watch would begin too early
    api.endWatches();
    api.put('pods', pod('two', 'app:2'));
    await images().toEqual({ 'apps/one': 'app:1', 'apps/two': 'app:2' });
    expect(api.lists(pods)).toHaveLength(1);
  });

  it('lists again where it comes too late (410 Gone), in a watch and between two pages', async () => {
    for (let n = 0; n < 300; n += 1) api.put('pods', pod(`pod-${n}`, 'app:1'));
    watch();
    await watching();
    await api.down();
    for (let n = 1; n < 300; n += 1) api.remove('pods', 'apps', `pod-${n}`);
    api.compact();
    await api.up();
    await images().toEqual({ 'apps/pod-0': 'app:1' });
    for (let n = 0; n < 300; n += 1) api.put('pods', pod(`late-${n}`, 'app:2'));
    await expect.poll(() => known.size).toBe(301);
    api.beforeNextPage(() => api.compact());
    api.compact();
    api.endWatches();
    await watching();
    expect(api.lists(pods).filter(({ status }) => status === 410)).toHaveLength(1);
    expect(known.size).toBe(301);
  });

  it('keeps what is known while nobody answers, and says so once', async () => {
    api.put('pods', pod('one', 'app:1'));
    watch();
    await watching();
    await api.down();
    await expect.poll(() => warnings().length).toBe(1);
    const text = await metrics.registry.metrics();
    expect(text).toContain('cistern_kubernetes_usable{resource="pods"} 0');
    await delay(2_000); // some more tries
    expect(Object.fromEntries(known)).toEqual({ 'apps/one': 'app:1' });
    await api.up();
    api.put('pods', pod('two', 'app:2'));
    await images().toEqual({ 'apps/one': 'app:1', 'apps/two': 'app:2' });
    expect(warnings()).toHaveLength(1);
    expect(await metrics.registry.metrics()).toContain('cistern_kubernetes_usable{resource="pods"} 1');
  });

  it('says what it is not allowed, and goes on when it is', async () => {
    api.put('pods', pod('one', 'app:1'));
    api.forbid(pods);
    watch();
    await expect.poll(() => warnings().length).toBe(1);
    expect(warnings()[0]?.err?.code).toBe('forbidden');
    api.allow(pods);
    await images().toEqual({ 'apps/one': 'app:1' });
  });

  it('takes up a new token when the old one is refused, at once', async () => {
    api.put('pods', pod('one', 'app:1'));
    watch();
    await watching();
    await api.changeToken('second-token');
    api.endWatches();
    api.put('pods', pod('two', 'app:2'));
    await images().toEqual({ 'apps/one': 'app:1', 'apps/two': 'app:2' });
    expect(api.requests.filter(({ status }) => status === 401)).toHaveLength(1);
    expect(warnings()).toEqual([]);
  });
});
