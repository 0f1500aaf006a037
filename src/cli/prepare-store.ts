import { setTimeout as sleep } from 'node:timers/promises';
import type { INestApplicationContext } from '@nestjs/common';
import type { Config } from '../config/config.js';
import type { WorkFolder } from '../storage/filesystem/work-folder.js';
import type { JoiningCluster } from '../cluster/cluster.js';
import { CLUSTER } from '../cluster/cluster.module.js';
import { establishIdentity } from '../storage/identity.js';
import { registrySchedule } from '../storage/layout.js';
import { sweepUploads } from '../storage/leftovers.js';
import { BLOB_STORE, RECORD_STORE, SPOOL_FOLDER, WORK_FOLDER } from '../storage/storage.module.js';
import { StorageError, type BlobStore, type RecordStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { UPSTREAMS, type Upstreams } from '../upstream/upstream.module.js';

const againMs = 10_000;

/**
 * Makes the store ready for this mirror: registry's leftovers, what a crash left behind. Without an
 * upstream nothing is written, so that a read-only volume can be served. A remote store that is in trouble does not
 * keep the mirror from starting: it is made ready as soon as it can be. `ready` is told then. Throws StorageError.
 */
export async function prepareStore(
  app: INestApplicationContext,
  config: Config,
  log: Logger,
  ready: () => void = () => undefined,
): Promise<void> {
  const { proxy, storage } = config;
  if (proxy.default === undefined && proxy.upstreams.length === 0) {
    log.warn('neither proxy.remoteurl nor proxy.upstreams: serving what is stored, nobody is asked');
    return;
  }
  for (const folder of new Set([app.get<WorkFolder>(WORK_FOLDER), app.get<WorkFolder>(SPOOL_FOLDER)])) {
    const removed = await folder.sweep();
    if (removed > 0) log.info({ folder: folder.parent, files: removed }, 'removed what a crash left behind');
  }
  try {
    await adopt(app, proxy.host, log);
  } catch (err) {
    if (storage.driver === 'filesystem' || !(err instanceof StorageError)) throw err;
    log.error({ err }, 'the storage cannot be used yet');
    void adoptLater(app, proxy.host, log, ready);
    return;
  }
  ready();
  void sweepAtStart(app.get<BlobStore>(BLOB_STORE), log);
}

async function adopt(app: INestApplicationContext, host: string, log: Logger): Promise<void> {
  const records = app.get<RecordStore>(RECORD_STORE);
  const identity = await establishIdentity(records, host);
  const cluster = app.get<JoiningCluster>(CLUSTER);
  cluster.join(identity);
  for (const upstream of app.get<Upstreams>(UPSTREAMS).values()) upstream.keepBudgetIn(cluster.budgets);
  // registry:2 would delete content by an old schedule when it gets this store back.
  if (await records.adopt(registrySchedule, `adopted/${registrySchedule}`)) {
    log.info("took over a registry's cache");
  }
}

/** The same, until it succeeds. A conflict that shows only now ends the mirror: it would mix two registries. */
async function adoptLater(
  app: INestApplicationContext,
  host: string,
  log: Logger,
  ready: () => void,
): Promise<void> {
  for (;;) {
    await sleep(againMs, undefined, { ref: false });
    try {
      await adopt(app, host, log);
      log.info('the storage can be used now');
      ready();
      await sweepAtStart(app.get<BlobStore>(BLOB_STORE), log);
      return;
    } catch (err) {
      if (err instanceof StorageError) continue; // health and every request say so already
      log.fatal({ err }, 'this is not the storage of this mirror');
      process.kill(process.pid, 'SIGTERM');
      return;
    }
  }
}

async function sweepAtStart(blobs: BlobStore, log: Logger): Promise<void> {
  try {
    const removed = await sweepUploads(blobs);
    if (removed > 0) log.info({ uploads: removed }, 'removed uploads that were never completed');
  } catch (err) {
    log.warn({ err }, 'abandoned uploads could not be removed');
  }
}
