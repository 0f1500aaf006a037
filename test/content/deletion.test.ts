import { mkdir, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { blobPath, layerLinkPath } from '../../src/storage/layout.js';
import { repository } from '../contracts/repository-store.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { cephParts, type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import {
  type Cistern,
  overlay,
  runCistern,
  type Settings,
  startCistern,
  startCommand,
} from '../parts/cistern.js';
import { clockOff } from '../parts/clock.js';
import { lacks } from '../parts/debian.js';
import { contentsOf, type Image, imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric, sha256, untilIdle } from '../parts/mirror.js';
import { patience, patienceMs } from '../parts/patience.js';
import { runSuccessfully, until } from '../parts/process.js';
import { startReplicas } from '../parts/replicas.js';
import { S3Counter } from '../parts/s3-counter.js';
import { describeOverStores, newBucket, type BucketStore, type SharedStore } from '../parts/stores.js';

/** Only the commands of a test delete content. */
const config: Settings = {
  storage: { delete: { enabled: true } },
  scheduler: { enabled: false, grace: '1s' },
};
/** A job reads this after it has listed the links, and before it deletes. */
const readBetween = 'cistern/adopted/scheduler-state.json';

const kept = imageOf({ layers: [randomLayer(100_000, 'kept')] });
const unused = imageOf({ layers: [randomLayer(100_000, 'unused')] });

function digestsOf(image: Image): string[] {
  return Object.values(contentsOf(image))
    .flatMap((contents) => contents.map(({ digest }) => digest))
    .toSorted();
}

/** Status and digest of the answer. */
async function answerOf(url: string): Promise<string> {
  const answer = await fetch(url);
  return `${answer.status} sha256:${sha256(await answer.bytes())}`;
}

async function expectPull({ url }: Cistern, tag: string, image: Image): Promise<void> {
  const { manifest } = image;
  expect(await answerOf(`${url}/v2/team/app/manifests/${tag}`)).toBe(`200 ${manifest.digest}`);
  for (const { digest } of contentsOf(image).blobs) {
    expect(await answerOf(`${url}/v2/team/app/blobs/${digest}`)).toBe(`200 ${digest}`);
  }
}

/** Removes all links of the repository, and waits until its content may be deleted. */
async function purge({ configFile }: Cistern): Promise<void> {
  expect(await runCistern(['purge', '--all', 'team/app', '-c', configFile])).toMatchObject({ code: 0 });
  const purgedAt = Date.now();
  await until(() => Date.now() > purgedAt + 3_000, patience()); // the grace, in whole seconds
}

/** A process is held where it reads a file. */
interface Hold extends AsyncDisposable {
  reached(pid: number): Promise<unknown>;
  release(): Promise<void>;
}

/** A process that opens a named pipe waits for a writer. Linux says so of its thread (proc(5), `wchan`). */
async function holdReaderOf(path: string): Promise<Hold> {
  await mkdir(dirname(path), { recursive: true });
  await runSuccessfully('mkfifo', [path]);
  const isWaiting = async (pid: number): Promise<boolean> => {
    const tasks = `/proc/${pid}/task`;
    const waits = await Promise.all(
      (await readdir(tasks)).map((task) => readFile(`${tasks}/${task}/wchan`, 'utf8').catch(() => '')),
    );
    return waits.includes('wait_for_partner');
  };
  const release = async (): Promise<void> => {
    await using _file = await open(path, 'w');
    await rm(path);
  };
  return {
    reached: (pid) => until(() => isWaiting(pid), patience()),
    release,
    [Symbol.asyncDispose]: () => rm(path, { force: true }),
  };
}

describeOverStores('content that a client pulls again while it is deleted', ['faketime'], (newStore) => {
  let cleanup: AsyncDisposableStack;
  let store: SharedStore;
  let upstream: FakeUpstream;
  beforeEach(async () => {
    cleanup = new AsyncDisposableStack();
    store = cleanup.use(await newStore());
    upstream = cleanup.use(await FakeUpstream.start());
  });
  afterEach(() => cleanup.disposeAsync());

  async function replica(env: Readonly<Record<string, string>> = {}): Promise<Cistern> {
    const proxy = { proxy: { remoteurl: upstream.url, ttl: '24h' } };
    const all = overlay(overlay(config, store.config), proxy);
    return cleanup.use(await startCistern({ root: store.root, config: all, env }));
  }

  /** The configuration of a deleter that is held when it reads the file, and that. */
  async function holdDeleter({ configFile }: Cistern): Promise<{ configFile: string; hold: Hold }> {
    const { s3 } = (store.config['storage'] ?? {}) as { s3?: { regionendpoint: string } };
    if (s3 === undefined) return { configFile, hold: await holdReaderOf(join(store.root, readBetween)) };
    const counter = cleanup.use(await S3Counter.start(s3.regionendpoint));
    const [reached, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    counter.hold = ({ path }) => {
      if (!path.endsWith(readBetween)) return undefined;
      reached.resolve();
      return released.promise;
    };
    const text = await readFile(configFile, 'utf8');
    const elsewhere = `${configFile}.held.yml`;
    await writeFile(elsewhere, text.replaceAll(s3.regionendpoint, counter.url));
    const release = async (): Promise<void> => released.resolve();
    return {
      configFile: elsewhere,
      hold: { reached: () => reached.promise, release, [Symbol.asyncDispose]: release },
    };
  }

  it.each([
    ['a replica whose clock is right', 0],
    ['a replica whose clock is 20 minutes behind', -1200],
    ['a replica whose clock is 20 minutes ahead', 1200],
  ])('stays when %s links it, and the deleter was stopped meanwhile', async (_name, seconds) => {
    upstream.addImage('team/app', 'v1', kept);
    upstream.addImage('team/app', 'v2', unused);
    const first = await replica();
    await expectPull(first, 'v1', kept);
    await expectPull(first, 'v2', unused);
    await untilIdle(first);
    await purge(first);
    await first.stop(); // so that the command deletes by itself
    // The first pull is long ago: a job that finds its uses does not look for what else protects the content.
    const journals = 'cistern/usage/journal';
    for (const path of await store.list(journals)) await store.remove(`${journals}/${path}`);

    const other = await replica(seconds === 0 ? {} : clockOff(seconds));
    const { configFile, hold } = await holdDeleter(first);
    await using _hold = hold;
    await using deleter = await startCommand(['gc', '-c', configFile]);
    await hold.reached(deleter.pid);
    deleter.kill('SIGSTOP');
    await expectPull(other, 'v1', kept);
    await untilIdle(other);
    deleter.kill('SIGCONT');
    await hold.release();
    expect(await deleter.exited).toMatchObject({ code: 0 });

    expect((await store.blobs()).toSorted()).toEqual(digestsOf(kept));
    await upstream.down();
    await expectPull(other, 'v1', kept);
    await expectPull(await replica(), 'v1', kept);
  });

  it('does not wait for a deleter that died', async () => {
    upstream.addImage('team/app', 'v1', kept);
    const hex = kept.manifest.digest.slice('sha256:'.length);
    await store.write(`cistern/deleting/sha256/${hex}/died`, `${Math.floor(Date.now() / 1000)}\n`);
    await expectPull(await replica(), 'v1', kept);
    expect(await store.list('cistern/deleting')).toHaveLength(1); // it has not lapsed yet
  });
});

describeOverStores('a descriptor in Redis without its link', ['redis-server'], (newStore) => {
  it('ends within the grace', async () => {
    const blob = blobOf(1_000, 'unlinked');
    const grace = { scheduler: { enabled: false, grace: '2s' } };
    await using cluster = await startReplicas({ newStore, count: 1, config: () => grace });
    cluster.upstream.addBlob('team/app', blob);
    const replica = cluster.replica(0);
    const url = replica.v2(`team/app/blobs/${blob.digest}`);
    expect(await answerOf(url)).toBe(`200 ${blob.digest}`);
    await untilIdle(replica);
    // A replica removes the link, and its message to the others is lost.
    await cluster.store.remove(layerLinkPath(repository('team/app'), blob.digest));
    await cluster.upstream.down();
    await expect.poll(() => answerOf(url), { timeout: patienceMs }).toMatch(/^503 /);
  });
});

describe.skipIf(lacks(...cephParts))('an object in a bucket', () => {
  let rgw: CephRgw;
  let upstream: FakeUpstream;
  beforeAll(async () => {
    rgw = await startCephRgw();
  });
  afterAll(async () => {
    await rgw?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    upstream = await FakeUpstream.start();
  });
  afterEach(() => upstream[Symbol.asyncDispose]());

  function start(store: BucketStore, settings: Settings): Promise<Cistern> {
    const proxy = { proxy: { remoteurl: upstream.url, ttl: '24h' } };
    return startCistern({
      root: store.root,
      config: overlay(overlay(overlay(config, store.config), proxy), settings),
    });
  }

  it('stays for clients that hold its address when the scrub finds it rotten', async () => {
    const blob = blobOf(100_000, 'rotten');
    upstream.addBlob('team/app', blob);
    await using store = await newBucket(rgw, { redirect: true });
    await using mirror = await start(store, { scheduler: { enabled: true, scrub: { schedule: '1s' } } });
    const url = `${mirror.url}/v2/team/app/blobs/${blob.digest}`;
    expect(await answerOf(url)).toBe(`200 ${blob.digest}`);
    await untilIdle(mirror);
    const address = (await fetch(url, { redirect: 'manual' })).headers.get('location') ?? '';
    expect(await answerOf(address)).toBe(`200 ${blob.digest}`);
    await store.write(blobPath(blob.digest), Buffer.alloc(blob.size));
    await expect.poll(() => metric(mirror, 'cistern_rotten_total'), { timeout: patienceMs }).toBe(1);
    expect(await answerOf(address)).toBe(`200 sha256:${sha256(Buffer.alloc(blob.size))}`);
    await expect.poll(() => answerOf(url), { timeout: patienceMs }).toBe(`200 ${blob.digest}`);
  });

  it('stays when it is linked again while its deletion is on the way there', async () => {
    const blob = blobOf(100_000, 'linked again');
    const path = `team/app/blobs/${blob.digest}`;
    upstream.addBlob('team/app', blob);
    await using link = await S3Counter.start(rgw.regionendpoint);
    await using store = await newBucket(rgw);
    await using near = await start(store, {});
    const s3 = { ...store.s3, regionendpoint: link.url };
    await using far = await start(store, { storage: { ...(store.config['storage'] as Settings), s3 } });
    expect(await answerOf(`${near.url}/v2/${path}`)).toBe(`200 ${blob.digest}`);
    await untilIdle(near);
    await purge(near);

    const arrives = Promise.withResolvers<void>();
    link.delay = ({ method, path: key }) =>
      method === 'DELETE' && key.endsWith('/data') ? arrives.promise : undefined;
    const sent = (): S3Counter['requests'] =>
      link.requests.filter(({ method, path: key }) => method === 'DELETE' && key.endsWith('/data'));
    await using deleter = await startCommand(['gc', '-c', far.configFile]);
    await until(() => sent().length > 0, patience());
    far.kill('SIGSTOP'); // a command has the mirror beside it do the work
    // Where it is linked, the upstream is not asked.
    const asked = async (): Promise<number> => {
      const before = upstream.asked({ path: `/v2/${path}` }).length;
      expect(await answerOf(`${near.url}/v2/${path}`)).toBe(`200 ${blob.digest}`);
      return upstream.asked({ path: `/v2/${path}` }).length - before;
    };
    await expect.poll(asked, { timeout: patienceMs, interval: 500 }).toBe(0);
    far.kill('SIGCONT');
    arrives.resolve();
    await until(() => sent().every(({ status }) => status !== undefined), patience());
    await deleter.exited;
    expect(await store.blobs()).toEqual([blob.digest]);
    await upstream.down();
    expect(await answerOf(`${near.url}/v2/${path}`)).toBe(`200 ${blob.digest}`);
  });
});
