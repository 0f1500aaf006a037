import type { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { LinkProxy } from '../fakes/link-proxy.js';
import { makeOwnCertificate } from '../parts/certificates.js';
import { type Cistern, type Settings, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { contentsOf, type Image, jsonContent, randomLayer } from '../parts/image.js';
import { blobOf, sha256 } from '../parts/mirror.js';
import { freePort } from '../parts/ports.js';
import { until } from '../parts/process.js';
import { type SentinelGroup, type SentinelOptions, startSentinelGroup } from '../parts/sentinel.js';
import { patience } from '../parts/patience.js';
import { redisValuesOf } from '../parts/sealed.js';

interface Stage extends AsyncDisposable {
  readonly group: SentinelGroup;
  readonly upstream: FakeUpstream;
  readonly replicas: readonly Cistern[];
  /** The storage root of the replicas. */
  readonly root: string;
}

/** As many replicas as there are `redis` sections, on one folder, behind one upstream. */
async function startStage(
  options: SentinelOptions,
  sections: (group: SentinelGroup) => Promise<readonly Settings[]>,
): Promise<Stage> {
  await using cleanup = new AsyncDisposableStack();
  const group = cleanup.use(await startSentinelGroup(options));
  const root = cleanup.use(await temporaryFolder()).path;
  const upstream = cleanup.use(await FakeUpstream.start({ bytesPerSecond: 30_000_000 }));
  const replicas: Cistern[] = [];
  for (const redis of await sections(group)) {
    const config = {
      storage: { cache: { blobdescriptor: 'redis' } },
      redis,
      cluster: { addr: `127.0.0.1:${await freePort()}`, locktimeout: '2s' },
      proxy: { remoteurl: upstream.url, freshness: '500ms' },
    };
    replicas.push(cleanup.use(await startCistern({ root, config })));
  }
  const owned = cleanup.move();
  return { group, upstream, replicas, root, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Until both connections of so many replicas lead to this server. */
async function untilConnected(redis: Redis, replicas: number): Promise<void> {
  const connections = async () => {
    const names = (await redis.client('LIST')) as string;
    const of = (name: string) => names.split(` name=cistern-${name} `).length - 1;
    return { data: of('data'), locks: of('locks') };
  };
  await expect.poll(connections).toEqual({ data: replicas, locks: replicas });
}

/** The key under which the mirror keeps something, whatever its id is. */
async function keyOf(redis: Redis, name: string): Promise<string | undefined> {
  const [found] = await redis.keys(`cistern:{*}:${name}`);
  return found;
}

/** What came of a GET: nothing, if it was right. */
async function failureOf(url: string, digest: string): Promise<string | undefined> {
  try {
    const response = await fetch(url);
    const found = `sha256:${sha256(await response.bytes())}`;
    return response.status === 200 && found === digest ? undefined : `${url}: ${response.status}, ${found}`;
  } catch (error) {
    return `${url}: ${String(error)}, ${String((error as Error).cause)}`;
  }
}

async function pull({ url }: Cistern, name: string, tag: string, image: Image): Promise<string[]> {
  const base = `${url}/v2/${name}`;
  const results = await Promise.all([
    failureOf(`${base}/manifests/${tag}`, image.manifest.digest),
    ...contentsOf(image).blobs.map(({ digest }) => failureOf(`${base}/blobs/${digest}`, digest)),
  ]);
  return results.filter((result) => result !== undefined);
}

function imageOf(seed: string): Image {
  const layers = [randomLayer(300_000, seed)];
  const config = jsonContent('application/vnd.oci.image.config.v1+json', { seed });
  const manifest = jsonContent('application/vnd.oci.image.manifest.v1+json', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: config.mediaType, digest: config.digest, size: config.size },
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  });
  return { platform: { os: 'linux', architecture: 'amd64' }, manifest, config, layers };
}

/** Pulls what is cached, and again and again what is new, from all replicas at once. */
class Load implements AsyncDisposable {
  readonly failures: string[] = [];
  warm = 0;
  cold = 0;
  #on = true;
  readonly #ended: Promise<unknown>;

  constructor(
    private readonly upstream: FakeUpstream,
    private readonly replicas: readonly Cistern[],
  ) {
    const cached = imageOf('cached');
    upstream.addImage('team/warm', 'v1', cached);
    const warm = async (replica: Cistern) => {
      while (this.#on) {
        this.failures.push(...(await pull(replica, 'team/warm', 'v1', cached)));
        this.warm += 1;
      }
    };
    this.#ended = Promise.all([this.#pullCold(), ...replicas.map((replica) => warm(replica))]);
  }

  /** Until so many more rounds of each kind are over. */
  more(rounds: number): Promise<void> {
    const { cold, warm } = this;
    const enough = () => this.cold >= cold + rounds && this.warm >= warm + rounds;
    return until(enough, patience());
  }

  async end(): Promise<void> {
    this.#on = false;
    await this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  async #pullCold(): Promise<void> {
    while (this.#on) {
      const tag = `v${this.cold}`;
      const image = imageOf(tag);
      this.upstream.addImage('team/cold', tag, image);
      const pulls = await Promise.all(this.replicas.map((replica) => pull(replica, 'team/cold', tag, image)));
      this.failures.push(...pulls.flat());
      this.cold += 1;
    }
  }
}

/** One cold blob for everybody: the lease is in this server meanwhile, the descriptor afterwards. */
async function expectLocksAndDescriptors({ upstream, replicas, root }: Stage, redis: Redis): Promise<void> {
  const blob = blobOf(2_000_000, 'afterwards');
  upstream.addBlob('team/after', blob);
  const path = `/v2/team/after/blobs/${blob.digest}`;
  const halted = Promise.withResolvers<void>();
  upstream.fault({ path, method: 'GET' }, { stallAt: 1_000_000, until: halted.promise });
  const pulls = Promise.all(replicas.map(({ url }) => failureOf(url + path, blob.digest)));
  let lease: string | undefined;
  const leased = async () => (lease = await keyOf(redis, `lease:blob:${blob.digest}`)) !== undefined;
  await until(leased, patience());
  expect(await redis.pttl(lease ?? '')).toBeGreaterThan(0);
  await until(async () => {
    const leader = await keyOf(redis, `leader:blob:${blob.digest}`);
    return leader !== undefined;
  }, patience());
  halted.resolve();
  expect(await pulls).toEqual(replicas.map(() => undefined));
  expect(upstream.asked({ method: 'GET', path })).toHaveLength(1);
  const { keys, values } = await redisValuesOf(root);
  const key = keys.descriptor(`team/after@${blob.digest}`);
  await expect
    .poll(async () => values.open('descriptor', key, await redis.get(key)))
    .toMatch(`${blob.size} ${blob.digest} application/octet-stream`);
}

const outages = ({ logRecords }: Cistern) =>
  logRecords().filter(({ msg }) => msg === 'redis cannot be used, going on without it');

describe.skipIf(lacks('redis-server'))('Redis with Sentinels', () => {
  it('may lose its master under load: no client notices, and its successor has the locks', async () => {
    await using stage = await startStage({}, ({ mastername, addrs }) => {
      const seeds = { sentinel: { mastername, addrs: addrs.join(',') } };
      return Promise.resolve([seeds, seeds, seeds, { mastername, addrs }]);
    });
    const { group, upstream, replicas } = stage;
    const before = await group.agreedMaster();
    const old = group.connect(before);
    await untilConnected(old, replicas.length);
    await using load = new Load(upstream, replicas);
    await load.more(5);
    old.disconnect();
    await group.killMaster();
    await load.more(5); // while there is none
    const redis = group.connect(await group.agreedMaster(before));
    try {
      await untilConnected(redis, replicas.length);
      await load.more(5);
      await load.end();
      expect(load.failures).toEqual([]);
      await expectLocksAndDescriptors(stage, redis);
      for (const replica of replicas) {
        // Each of two connections may be lost twice: to the dead one, and when the new one tells its clients that
        // it has changed. Those that are lost together share a line.
        await expect.poll(() => outages(replica).length).toBeGreaterThanOrEqual(1);
        expect(outages(replica).length).toBeLessThanOrEqual(4);
      }
    } finally {
      redis.disconnect();
    }
  });

  it('may tell of a new master while they are asked who it is', async () => {
    await using cleanup = new AsyncDisposableStack();
    const links: LinkProxy[] = [];
    const stage = await startStage({ sentinels: 1 }, async ({ mastername, addrs }) => {
      const link = cleanup.use(await LinkProxy.start({ target: `http://${addrs[0]}` }));
      links.push(link);
      return [{ mastername, addrs: [new URL(link.url).host] }];
    });
    cleanup.use(stage);
    const before = await stage.group.agreedMaster();
    const old = stage.group.connect(before);
    await untilConnected(old, 1);
    old.disconnect();
    // Who has subscribed is told; whoever asks anew gets no answer.
    for (const link of links) link.inject({ stallAt: 0 });
    await stage.group.killMaster();
    const redis = stage.group.connect(await stage.group.agreedMaster(before));
    try {
      for (const link of links) link.heal();
      await untilConnected(redis, 1);
      const image = imageOf('next');
      stage.upstream.addImage('team/next', 'v1', image);
      for (const replica of stage.replicas) expect(await pull(replica, 'team/next', 'v1', image)).toEqual([]);
      await expectLocksAndDescriptors(stage, redis);
    } finally {
      redis.disconnect();
    }
  });

  it('may ask for users and passwords, its Sentinels for others, and have a database of its own', async () => {
    const user = { username: 'mirror', password: 'secret-of-redis' };
    const sentinelUser = { username: 'watcher', password: 'secret-of-sentinel' };
    const db = 5;
    const access = {
      ...user,
      db,
      sentinelusername: sentinelUser.username,
      sentinelpassword: sentinelUser.password,
    };
    await using stage = await startStage(
      { user, sentinelUser },
      async ({ mastername, addrs, agreedMaster }) => [
        { ...access, sentinel: { mastername, addrs: addrs.join(',') } },
        { ...access, mastername, addrs },
        { ...user, db, addr: `127.0.0.1:${await agreedMaster()}` },
      ],
    );
    const { group, upstream, replicas } = stage;
    const before = await group.agreedMaster();
    const old = group.connect(before, db);
    await untilConnected(old, 3);
    await expectLocksAndDescriptors(stage, old);
    old.disconnect();
    await group.killMaster();
    const successor = await group.agreedMaster(before);
    const redis = group.connect(successor, db);
    const elsewhere = group.connect(successor);
    try {
      await untilConnected(redis, 2); // the third one was told of a server, not of Sentinels
      const image = imageOf('later');
      upstream.addImage('team/later', 'v1', image);
      const pulls = replicas.map((replica) => pull(replica, 'team/later', 'v1', image));
      expect((await Promise.all(pulls)).flat()).toEqual([]);
      await expect.poll(() => keyOf(redis, 'tag:team/later:v1')).toBeDefined();
      expect(await elsewhere.dbsize()).toBe(0);
      for (const { log } of replicas) {
        expect(log()).not.toContain(user.password);
        expect(log()).not.toContain(sentinelUser.password);
      }
    } finally {
      redis.disconnect();
      elsewhere.disconnect();
    }
  });

  it.skipIf(lacks('openssl'))('may speak TLS alone, and so may its Sentinels', async () => {
    await using folder = await temporaryFolder();
    const tls = await makeOwnCertificate(folder.path, 'redis');
    const encrypted = { tls: { enabled: true, clientcas: [tls.certificate] } };
    await using stage = await startStage({ tls }, async ({ mastername, addrs, agreedMaster }) => [
      { ...encrypted, sentinel: { mastername, addrs: addrs.join(',') } },
      { ...encrypted, addr: `127.0.0.1:${await agreedMaster()}` },
    ]);
    const redis = stage.group.connect(await stage.group.agreedMaster());
    try {
      await untilConnected(redis, 2);
      await expectLocksAndDescriptors(stage, redis);
      for (const replica of stage.replicas) expect(outages(replica)).toEqual([]);
    } finally {
      redis.disconnect();
    }
  });
});
