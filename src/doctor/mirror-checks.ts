import { join } from 'node:path';
import type { Config } from '../config/config.js';
import { readIdentity } from '../storage/identity.js';
import { localSpools, ownFolder } from '../storage/layout.js';
import { FilesystemRecordStore } from '../storage/filesystem/record-store.js';
import { WorkFolder } from '../storage/filesystem/work-folder.js';
import { Bucket } from '../storage/s3/bucket.js';
import { S3RecordStore } from '../storage/s3/record-store.js';
import { credentialsOf } from '../upstream/configured-credentials.js';
import { DockerConfig } from '../upstream/docker-config.js';
import { proxySettings } from '../upstream/proxy.js';
import { certificateCheck } from './certificate-check.js';
import { runChecks, silent, type Check, type Finding } from './check.js';
import { Clocks } from './clocks.js';
import { clusterCheck } from './cluster-check.js';
import { folderCheck } from './folder-check.js';
import { isRunning, portsCheck } from './ports-check.js';
import { redisCheck } from './redis-check.js';
import { s3Check } from './s3-check.js';
import { upstreamCheck } from './upstream-check.js';

/** All that can be looked at from a mirror's configuration. */
export async function examineMirror(
  config: Config,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<Finding[]> {
  const clocks = new Clocks();
  const findings = await runChecks(checksOf(config, env, clocks), signal);
  return [...findings, ...(await runChecks([clocks.check()], signal))];
}

function checksOf(config: Config, env: NodeJS.ProcessEnv, clocks: Clocks): Check[] {
  const { http, redis, cluster } = config;
  const mirror = isRunning(config);
  const running = (): Promise<boolean> => mirror;
  return [
    portsCheck(config, running),
    ...(http.tls === undefined ? [] : [certificateCheck(http.tls, namesOf(config))]),
    ...storageChecks(config, clocks),
    ...(redis === undefined ? [] : [redisCheck(redis, clocks)]),
    ...(redis === undefined
      ? []
      : [clusterCheck({ cluster, redis, running, stored: () => storedSecret(config) })]),
    ...upstreamChecks(config, env, clocks),
  ];
}

function namesOf({ proxy }: Config): string[] {
  return [proxy.default, ...proxy.upstreams].flatMap((upstream) => upstream?.hosts ?? []);
}

function storageChecks({ storage, proxy }: Config, clocks: Clocks): Check[] {
  const spools = proxy.spool.directory;
  if (storage.driver === 'filesystem') {
    const root = folderCheck(
      'storage',
      'storage.filesystem.rootdirectory',
      storage.filesystem.rootdirectory,
      clocks,
    );
    return spools === undefined
      ? [root]
      : [root, folderCheck('spool', 'proxy.spool.directory', spools, clocks)];
  }
  const spool = folderCheck('spool', 'proxy.spool.directory', spools ?? localSpools, clocks);
  return [s3Check(storage.s3, clocks), spool];
}

function upstreamChecks({ proxy }: Config, env: NodeJS.ProcessEnv, clocks: Clocks): Check[] {
  const settings = proxySettings(env);
  const shared =
    proxy.dockerconfigjson === undefined ? undefined : new DockerConfig(proxy.dockerconfigjson, silent);
  return [proxy.default, ...proxy.upstreams]
    .filter((config) => config !== undefined)
    .map((config) =>
      upstreamCheck({
        config,
        credentials: credentialsOf(config, { shared, log: silent }),
        proxy: settings,
        clocks,
      }),
    );
}

/** Nothing is made where nothing is. */
async function storedSecret({ storage }: Config): Promise<string | undefined> {
  if (storage.driver === 'filesystem') {
    const root = storage.filesystem.rootdirectory;
    const records = new FilesystemRecordStore(root, new WorkFolder(join(root, ownFolder, 'spool')));
    return (await readIdentity(records))?.secret;
  }
  const bucket = new Bucket(storage.s3, silent);
  try {
    return (await readIdentity(new S3RecordStore(bucket)))?.secret;
  } finally {
    bucket.close();
  }
}
