import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FakeUpstream } from '../../test/fakes/fake-upstream.js';
import { startCephRgw } from '../../test/parts/ceph-rgw.js';
import type { Settings } from '../../test/parts/cistern.js';
import { movableWallClock } from '../../test/parts/clock.js';
import { temporaryFolder } from '../../test/parts/folder.js';
import { startRedis } from '../../test/parts/redis.js';
import type { Random } from '../random.js';
import { hosts, largeRepository, makeContents, type Contents, type Published } from './contents.js';
import type { FaultTask } from './faults.js';
import { redirectingReplica } from './faults.js';
import { Liar } from './liar.js';
import { WatchedReplica } from './replicas.js';
import { S3Front } from './s3-front.js';

export const replicaCount = 3;

/** Bcrypt hashes with cost 10, which most tools use. */
const htpasswd = `honest:$2b$10$76hfNewggVYsCKv0Ipsi6uqzwVS96gOTOmAK7uj9s5BUFfL6CFGdW
tenant:$2b$10$8wu4IluBP6uWZah8VkpMseEgSjh2ANCjTcUOBBnzj1yixMVuecoH2
`;

export function basicOf(user: 'honest' | 'tenant'): string {
  return `Basic ${Buffer.from(`${user}:${user} password`).toString('base64')}`;
}

/** All participants of a run, apart from the clients. */
export interface Scene extends Omit<FaultTask, 'random' | 'note'> {
  readonly folder: string;
  readonly contents: Contents;
}

/** Starts all participants; `cleanup` ends them. */
export async function makeScene(
  cleanup: AsyncDisposableStack,
  random: Random,
  note: (text: string) => void,
): Promise<Scene> {
  const contents = makeContents(random);
  const { path: folder } = cleanup.use(await temporaryFolder());
  const upstream = cleanup.use(await FakeUpstream.start({ bytesPerSecond: 50_000_000 }));
  const credentials = { username: 'mirror', password: 'private' };
  const closed = cleanup.use(await FakeUpstream.start({ users: { mirror: 'private' } }));
  const liar = cleanup.use(await Liar.start(contents.nested));
  publishAll(contents, upstream, closed);
  upstream.fault({ path: /^\/v2\/strange\// }, { answer: { status: 500, body: 'strange' } });
  note('starting a Ceph gateway');
  const rgw = cleanup.use(await startCephRgw());
  const bucket = await rgw.newBucket();
  const front = cleanup.use(await S3Front.start(rgw.regionendpoint));
  for (const { repository, image } of contents.unreadable) {
    front.unreadable.add(`/repositories/${repository}/_layers/${image.config.digest.replace(':', '/')}`);
    for (const { digest } of [image.manifest, ...image.layers])
      front.unreadable.add(digest.slice('sha256:'.length));
  }
  const redisClock = await movableWallClock(join(folder, 'clock-redis'));
  const redis = cleanup.use(await startRedis({ env: redisClock.env }));
  const passwords = join(folder, 'htpasswd');
  await writeFile(passwords, htpasswd);
  const replicas: WatchedReplica[] = [];
  for (let index = 0; index < replicaCount; index += 1) {
    await mkdir(join(folder, `replica-${index}`));
    const config = (addr: string, spool: string): Settings => ({
      log: { level: 'info', accesslog: { disabled: true } },
      auth: { htpasswd: { realm: 'mirror', path: passwords } },
      storage: {
        s3: rgw.settings(bucket, { regionendpoint: front.url, localcopies: '40MB' }),
        redirect: { disable: index !== redirectingReplica },
        cache: { blobdescriptor: 'redis' },
        delete: { enabled: true },
      },
      redis: { addr: redis.addr },
      cluster: { addr },
      proxy: {
        remoteurl: upstream.url,
        freshness: '2s',
        maxsize: '60MB',
        spool: { directory: spool },
        upstreams: [
          { host: hosts.private, url: closed.url, ...credentials, access: [{ users: ['honest'] }] },
          { host: hosts.liar, url: liar.url },
        ],
      },
      scheduler: {
        grace: '20s',
        expire: { schedule: '20s' },
        evict: { schedule: '15s' },
        sweep: { schedule: '60s' },
        reindex: { schedule: '60s' },
        scrub: { schedule: '90s' },
      },
    });
    const replica = await WatchedReplica.start(index, folder, config, note);
    cleanup.defer(() => replica.stop());
    replicas.push(replica);
  }
  return { folder, contents, upstream, front, redis, redisClock, replicas };
}

function publishAll(contents: Contents, upstream: FakeUpstream, closed: FakeUpstream): void {
  const add = (to: FakeUpstream, { repository, tag, image }: Published): void =>
    to.addImage(repository.replace(`${hosts.private}/`, ''), tag, image);
  for (const each of [...contents.honest, ...contents.unreadable]) add(upstream, each);
  for (const each of contents.private) add(closed, each);
  upstream.addBlob(largeRepository, contents.large);
}
