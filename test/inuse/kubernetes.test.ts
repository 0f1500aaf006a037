import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FakeKubeApi } from '../fakes/kube-api.js';
import { overlay, type Settings } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { contentsOf, type Image, type ImageIndex, imageOf, indexOf, randomLayer } from '../parts/image.js';
import { type Mirror, metric, soundStore, startMirror, untilIdle } from '../parts/mirror.js';

const image = (seed: string, architecture = 'amd64'): Image =>
  imageOf({
    platform: { os: 'linux', architecture },
    layers: [randomLayer(20_000, `${seed} ${architecture}`)],
  });
const running = indexOf([image('running'), image('running', 'arm64')]);
const tagged = image('tagged');
const idle = image('idle');

/** Deletes as soon as it can. */
const hasty: Settings = {
  storage: { delete: { enabled: true } },
  scheduler: { grace: '1s', expire: { schedule: '1s' }, evict: { schedule: '1s' } },
};

describe.skipIf(lacks('openssl'))('images that Pods run', () => {
  let cleanup: AsyncDisposableStack;
  let api: FakeKubeApi;
  let root: string;

  beforeEach(async () => {
    cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    root = cleanup.use(await temporaryFolder()).path;
    api = cleanup.use(await FakeKubeApi.start(folder.path));
  });
  afterEach(() => cleanup.disposeAsync());

  async function start(proxy: Settings, kubernetes: Settings = {}): Promise<Mirror> {
    const inuse = { scheduler: { inuse: { kubernetes: { enabled: true, ...kubernetes } } } };
    const mirror = await startMirror({
      root,
      proxy,
      config: overlay(hasty, overlay(inuse, { cluster: { kubeconfig: api.kubeconfig } })),
    });
    cleanup.use(mirror);
    mirror.upstream.addImage('team/running', 'v1', running);
    mirror.upstream.addImage('team/tagged', 'v1', tagged);
    mirror.upstream.addImage('team/idle', 'v1', idle);
    return mirror;
  }

  function runPods(): void {
    api.put('pods', pod('by-digest', 'team/running:v1', `docker.io/team/running@${running.manifest.digest}`));
    // Through a name of the mirror, and on a runtime that says no more than the image's id.
    api.put('pods', pod('by-tag', 'mirror.example.com:5000/team/tagged:v1', tagged.config.digest));
    api.put('pods', pod('ended', 'team/idle:v1', `docker.io/team/idle@${idle.manifest.digest}`, 'Succeeded'));
  }

  function pod(name: string, wanted: string, imageID: string, phase = 'Running') {
    return {
      metadata: { namespace: 'apps', name },
      spec: { containers: [{ name: 'main', image: wanted }] },
      status: { phase, containerStatuses: [{ name: 'main', image: wanted, imageID }] },
    };
  }

  const images = ({ cistern }: Mirror) => expect.poll(() => metric(cistern, 'cistern_inuse_images'));
  const stored = async () => new Set((await soundStore(root)).blobs);
  const digestsOf = (...items: (Image | ImageIndex)[]) =>
    new Set(items.flatMap((item) => Object.values(contentsOf(item)).flat()).map(({ digest }) => digest));

  it('neither expire nor are evicted, also after a restart and without the API; the others go', async () => {
    runPods();
    {
      await using mirror = await start({ ttl: '4s', maxsize: '1KB' });
      await images(mirror).toBe(3);
      await pullAll(mirror);
      await expect.poll(stored, { interval: 200 }).toEqual(digestsOf(running, tagged));
    }
    await api.down();
    await using mirror = await start({ ttl: '4s' });
    await pull(mirror, 'team/idle', idle);
    await expect.poll(stored, { interval: 200 }).toEqual(digestsOf(running, tagged));
    await mirror.upstream.down();
    await pull(mirror, 'team/running', running);
    await pull(mirror, 'team/tagged', tagged);

    await api.up();
    api.remove('pods', 'apps', 'by-digest');
    await expect.poll(stored, { interval: 200 }).toEqual(digestsOf(tagged));
  });

  it('are waited for before anything is deleted at all', async () => {
    runPods();
    api.forbid('/api/v1/pods');
    await using mirror = await start({ ttl: '1s' });
    await pullAll(mirror);
    await expect.poll(() => mirror.cistern.log()).toContain('kubernetes cannot be asked');
    await delay(4_000); // several runs of the jobs
    expect(await stored()).toEqual(digestsOf(running, tagged, idle));
    api.allow('/api/v1/pods');
    await expect.poll(stored, { interval: 200 }).toEqual(digestsOf(running, tagged));
  });

  it('are those of the namespaces that are named', async () => {
    runPods();
    const other = pod('elsewhere', 'team/idle:v1', '');
    api.put('pods', { ...other, metadata: { namespace: 'other', name: 'elsewhere' } });
    await using mirror = await start({ ttl: '4s' }, { namespaces: ['other', 'none'] });
    await pullAll(mirror);
    await expect.poll(stored, { interval: 200 }).toEqual(digestsOf(idle));
    expect(new Set(api.requests.map(({ path }) => path))).toEqual(
      new Set(['/api/v1/namespaces/other/pods', '/api/v1/namespaces/none/pods']),
    );
  });

  it('are fetched ahead when they are new, for the platforms of the nodes', async () => {
    api.put('pods', pod('old', 'team/idle:v1', ''));
    const nodeInfo = { operatingSystem: 'linux', architecture: 'arm64' };
    api.put('nodes', { metadata: { name: 'node' }, status: { nodeInfo } });
    await using mirror = await start({ ttl: '0s' }, { prewarm: true });
    await images(mirror).toBe(1);
    api.put('pods', pod('new', 'team/running:v1', '', 'Pending'));
    await expect.poll(() => mirror.cistern.log()).toContain('image fetched ahead');
    await untilIdle(mirror.cistern);
    const [, arm] = running.images;
    const wanted = digestsOf(arm ?? idle).add(running.manifest.digest);
    expect(await stored()).toEqual(wanted);
  });

  async function pullAll(mirror: Mirror): Promise<void> {
    await pull(mirror, 'team/running', running);
    await pull(mirror, 'team/tagged', tagged);
    await pull(mirror, 'team/idle', idle);
    await untilIdle(mirror.cistern);
  }

  async function pull(mirror: Mirror, repository: string, item: Image | ImageIndex): Promise<void> {
    const { manifests, blobs } = contentsOf(item);
    const paths = [
      'manifests/v1',
      ...manifests.map(({ digest }) => `manifests/${digest}`),
      ...blobs.map(({ digest }) => `blobs/${digest}`),
    ];
    for (const path of paths) {
      const answer = await fetch(mirror.url(`${repository}/${path}`));
      await answer.arrayBuffer();
      expect({ path, status: answer.status }).toEqual({ path, status: 200 });
    }
  }
});
