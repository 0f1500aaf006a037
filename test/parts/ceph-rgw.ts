import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Config } from '../../src/config/config.js';
import { Secret } from '../../src/config/secret.js';
import type { Settings } from './cistern.js';
import { commandOf, type Part } from './debian.js';
import { temporaryFolder } from './folder.js';
import { freePort, waitForPort } from './ports.js';
import { type RunningProcess, runSuccessfully, startProcess, until, untilReady } from './process.js';

/** What a client needs. The names of the keys are registry's. */
export interface S3Access {
  readonly region: string;
  readonly regionendpoint: string;
  readonly accesskey: string;
  readonly secretkey: string;
}

export interface CephRgw extends AsyncDisposable, S3Access {
  /** For looking at what is really there. */
  readonly client: S3Client;
  /** An empty bucket of one's own; returns its name. */
  newBucket(): Promise<string>;
  /** `storage.s3`, for registry and for us; changes are laid over it. */
  settings(bucket: string, changes?: Settings): Settings;
  /** The same, as it is once it has been read. */
  config(bucket: string): S3Config;
  /** The gateway alone stops; what is stored stays. */
  stopGateway(): Promise<void>;
  /** `env`: of its process, such as a clock that is off. */
  startGateway(env?: Readonly<Record<string, string>>): Promise<void>;
}

/** What it is made of. */
export const cephParts = ['ceph', 'ceph-mon', 'ceph-osd', 'radosgw'] as const satisfies readonly Part[];

/** The least that S3 takes, so that a blob of some megabytes goes there in parts. */
const chunksize = 5 * 1024 * 1024;

/**
 * Ceph's S3 gateway on loopback, with a monitor and one storage daemon behind it that keep everything in a folder: a
 * real S3 server, from Debian's packages, up in some seconds.
 */
export async function startCephRgw(): Promise<CephRgw> {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const port = await freePort();
  const conf = join(folder.path, 'ceph.conf');
  const fsid = randomUUID();
  for (const name of ['mon', 'osd', 'crash']) await mkdir(join(folder.path, name));
  const monitorPort = await freePort();
  await writeFile(conf, configuration(folder.path, fsid, monitorPort, port));
  const cluster = new Cluster(folder.path, conf);
  cleanup.use(await cluster.startMonitor(fsid, monitorPort));
  cleanup.use(await cluster.startStorage());
  const keys = { accesskey: 'mirror', secretkey: 'mirrorsecret' };
  await cluster.createUser(keys.accesskey, keys.secretkey);
  let gateway = await cluster.startGateway(port);
  cleanup.defer(async () => void (await gateway.stop()));
  const regionendpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({
    endpoint: regionendpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: keys.accesskey, secretAccessKey: keys.secretkey },
    requestChecksumCalculation: 'WHEN_REQUIRED',
  });
  cleanup.defer(() => client.destroy());
  const access = { region: 'us-east-1', regionendpoint, ...keys };
  const owned = cleanup.move();
  return {
    ...access,
    client,
    newBucket: async () => {
      const bucket = `mirror-${randomUUID()}`;
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      return bucket;
    },
    settings: (bucket, changes) => ({
      ...access,
      forcepathstyle: true,
      secure: false,
      bucket,
      rootdirectory: '/',
      chunksize,
      ...changes,
    }),
    config: (bucket) => configFor(access, bucket),
    stopGateway: async () => void (await gateway.stop()),
    startGateway: async (env) => {
      gateway = await cluster.startGateway(port, env);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function configFor({ region, regionendpoint, accesskey, secretkey }: S3Access, bucket: string): S3Config {
  return {
    region,
    bucket,
    endpoint: regionendpoint,
    forcepathstyle: true,
    accesskey: new Secret(accesskey),
    secretkey: new Secret(secretkey),
    sessiontoken: undefined,
    rootdirectory: '',
    chunksize,
    localcopies: 0,
    encrypt: false,
    keyid: undefined,
    storageclass: undefined,
    objectacl: undefined,
    secure: false,
    skipverify: false,
    useragent: undefined,
    accelerate: false,
    usedualstack: false,
  };
}

class Cluster {
  constructor(
    private readonly folder: string,
    private readonly conf: string,
  ) {}

  /** It holds the cluster's map, and begins with one in which it is alone. */
  async startMonitor(fsid: string, port: number): Promise<RunningProcess> {
    const map = join(this.folder, 'monmap');
    const address = `[v2:127.0.0.1:${port}]`;
    await this.#run('ceph-monmap', ['--create', '--fsid', fsid, '--addv', 'a', address, map]);
    await this.#run('ceph-mon', ['-c', this.conf, '-i', 'a', '--mkfs', '--monmap', map]);
    return this.#start('ceph-mon', ['-i', 'a', '-f'], async (signal) => {
      await waitForPort(port, signal);
      await this.#ceph(['mon', 'stat']);
    });
  }

  async startStorage(): Promise<RunningProcess> {
    const uuid = randomUUID();
    await this.#ceph(['osd', 'new', uuid, '0']);
    await this.#run('ceph-osd', ['-c', this.conf, '-i', '0', '--mkfs', '--osd-uuid', uuid]);
    return this.#start('ceph-osd', ['-i', '0', '-f'], (signal) =>
      until(async () => /"num_up_osds":1\b/.test(await this.#ceph(['osd', 'stat', '-f', 'json'])), signal),
    );
  }

  /** Also makes the gateway's zone and its first pools. */
  async createUser(accessKey: string, secretKey: string): Promise<void> {
    const user = ['user', 'create', '--uid', accessKey, '--display-name', accessKey];
    const keys = ['--access-key', accessKey, '--secret', secretKey];
    await this.#run('radosgw-admin', ['-c', this.conf, ...user, ...keys]);
  }

  startGateway(port: number, env: Readonly<Record<string, string>> = {}): Promise<RunningProcess> {
    const args = ['-n', 'client.rgw', '-f'];
    return this.#start('radosgw', args, (signal) => waitForPort(port, signal), env);
  }

  #ceph(args: readonly string[]): Promise<string> {
    return this.#run('ceph', ['-c', this.conf, ...args]);
  }

  #run(part: CephPart, args: readonly string[]): Promise<string> {
    return runSuccessfully(commandOf(part), args, { env: plainEnv });
  }

  async #start(
    part: CephPart,
    args: readonly string[],
    ready: (signal: AbortSignal) => Promise<unknown>,
    env: Readonly<Record<string, string>> = {},
  ): Promise<RunningProcess> {
    const running = await startProcess(commandOf(part), ['-c', this.conf, ...args], {
      env: { ...plainEnv, ...env },
    });
    await untilReady(running, part, ready);
    return running;
  }
}

type CephPart = 'ceph' | 'ceph-mon' | 'ceph-monmap' | 'ceph-osd' | 'radosgw' | 'radosgw-admin';

/** Nothing of another cluster leaks in. */
const plainEnv = { CEPH_ARGS: undefined, CEPH_CONF: undefined, CEPH_KEYRING: undefined, LC_ALL: 'C' };

function configuration(folder: string, fsid: string, monitorPort: number, port: number): string {
  return `[global]
fsid = ${fsid}
mon_host = v2:127.0.0.1:${monitorPort}
# Loopback only, and one protocol: half as many ports.
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_port_min = 6800
ms_bind_port_max = 6999
# No keys inside the cluster. Without the crc line the gateway wants an encrypted session, which needs them.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
# Everything that is written stays in the folder.
run_dir = ${folder}
crash_dir = ${folder}/crash
keyring = ${folder}/keyring
admin_socket =
debug_rocksdb = 0
# One copy of each object, on the one storage daemon.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
[mon]
mon_data = ${folder}/mon
log_file = ${folder}/mon.log
mon_cluster_log_file = ${folder}/cluster.log
# Changes of the map take effect at once, and a disk that is nearly full does not stop it.
paxos_propose_interval = 0.05
mon_data_avail_crit = 1
[osd]
osd_data = ${folder}/osd
log_file = ${folder}/osd.log
osd_objectstore = bluestore
bluestore_block_create = true
bluestore_block_size = ${4 * 1024 ** 3}
osd_crush_initial_weight = 1
# The least memory that it accepts.
osd_memory_target = 939524096
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
[client]
log_file = ${folder}/client.log
[client.rgw]
log_file = ${folder}/rgw.log
rgw_frontends = beast endpoint=127.0.0.1:${port}
rgw_thread_pool_size = 64
`;
}
