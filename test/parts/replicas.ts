import { get, type IncomingMessage } from 'node:http';
import { FakeUpstream, type FakeUpstreamOptions } from '../fakes/fake-upstream.js';
import { LinkProxy } from '../fakes/link-proxy.js';
import { type Cistern, overlay, type Settings, startCistern } from './cistern.js';
import { metric } from './mirror.js';
import { freePort } from './ports.js';
import { type RedisServer, type RedisServerOptions, startRedis } from './redis.js';
import { newFolder, type NewStore, type SharedStore } from './stores.js';

export interface Replica extends Cistern {
  /** Between it and those who read its spools, where the test asked for links. */
  readonly link: LinkProxy | undefined;
  readonly clusterUrl: string;
  /** `http://…/v2/<path>`. */
  v2(path: string): string;
}

export interface Replicas extends AsyncDisposable {
  readonly upstream: FakeUpstream;
  readonly redis: RedisServer;
  readonly store: SharedStore;
  readonly replicas: readonly Replica[];
  replica(index: number): Replica;
  /** One more, like the others. */
  add(): Promise<Replica>;
}

export interface ReplicasOptions {
  readonly count: number;
  readonly upstream?: FakeUpstreamOptions;
  readonly redis?: RedisServerOptions;
  /** Default: a folder. */
  readonly newStore?: NewStore;
  /** A link proxy before each cluster port, which the others are told to use. */
  readonly links?: boolean;
  /** Laid over the settings of one replica. */
  readonly config?: (index: number) => Settings;
  readonly proxy?: Settings;
  /** Of one replica's process. */
  readonly env?: (index: number) => Readonly<Record<string, string>>;
}

/**
 * A budget for locks that no pause of a busy machine exceeds: here the number of requests is what counts. The
 * default is there for clients that wait.
 */
const patientLocks = { locktimeout: '5s' };

/** Replicas as processes, over one store, one real Redis and one fake upstream. */
export async function startReplicas(options: ReplicasOptions): Promise<Replicas> {
  await using cleanup = new AsyncDisposableStack();
  const { count, newStore = newFolder, config } = options;
  const store = cleanup.use(await newStore());
  const upstream = cleanup.use(await FakeUpstream.start(options.upstream));
  const redis = cleanup.use(await startRedis(options.redis));
  const start = (stack: AsyncDisposableStack, index: number): Promise<Replica> =>
    startReplica(stack, {
      ...options,
      root: store.root,
      config: () => overlay(store.config, config?.(index) ?? {}),
      redis,
      remoteurl: upstream.url,
      index,
    });
  const replicas = await Promise.all(Array.from({ length: count }, (_, index) => start(cleanup, index)));
  const owned = cleanup.move();
  return {
    upstream,
    redis,
    store,
    replicas,
    replica: (index) => {
      const found = replicas[index];
      if (found === undefined) throw new Error(`no replica ${index}`);
      return found;
    },
    add: () => start(owned, count),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

export interface ReplicaOptions extends Omit<ReplicasOptions, 'count' | 'upstream' | 'redis' | 'newStore'> {
  readonly root: string;
  readonly redis: Pick<RedisServer, 'addr'>;
  readonly remoteurl: string;
  readonly index: number;
}

export async function startReplica(
  cleanup: AsyncDisposableStack,
  { root, redis, remoteurl, links, config, proxy, env, index }: ReplicaOptions,
): Promise<Replica> {
  const addr = `127.0.0.1:${await freePort()}`;
  const link = links === true ? cleanup.use(await LinkProxy.start({ target: `http://${addr}` })) : undefined;
  const settings = {
    storage: { cache: { blobdescriptor: 'redis' } },
    redis: { addr: redis.addr },
    cluster: { addr, ...patientLocks, ...(link === undefined ? {} : { advertise: link.url }) },
    proxy: { remoteurl, ...proxy },
  };
  const cistern = cleanup.use(
    await startCistern({
      root,
      config: overlay(settings, config?.(index) ?? {}),
      ...(env === undefined ? {} : { env: env(index) }),
    }),
  );
  return { ...cistern, link, clusterUrl: `http://${addr}`, v2: (path) => `${cistern.url}/v2/${path}` };
}

/**
 * Reads a body and compares it with as little work as possible, for the upstream runs in this process too. `true`:
 * it came whole and right.
 */
export async function receivesAll(url: string, expected: Buffer): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  get(url, { agent: false }, resolve).once('error', reject);
  let at = 0;
  for await (const chunk of (await promise) as AsyncIterable<Buffer>) {
    if (!chunk.equals(expected.subarray(at, at + chunk.byteLength))) return false;
    at += chunk.byteLength;
  }
  return at === expected.byteLength;
}

/** How often each way to get a blob's bytes was taken, over these replicas. */
export async function roles(
  replicas: readonly Replica[],
): Promise<Readonly<Record<'lead' | 'follow' | 'alone' | 'takeover', number>>> {
  const count = async (role: string): Promise<number> => {
    const counts = replicas.map((replica) => metric(replica, 'cistern_transfer_roles_total', { role }));
    return (await Promise.all(counts)).reduce((sum, each) => sum + each, 0);
  };
  return {
    lead: await count('lead'),
    follow: await count('follow'),
    alone: await count('alone'),
    takeover: await count('takeover'),
  };
}

/** The lines of a replica's log that are warnings or worse. */
export function warnings(replica: Replica): Settings[] {
  return replica
    .logRecords()
    .filter(({ level }) => level === 'warning' || level === 'error' || level === 'fatal');
}
