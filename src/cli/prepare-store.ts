import type { INestApplicationContext } from '@nestjs/common';
import type { Config } from '../config/config.js';
import type { FilesystemRecordStore } from '../storage/filesystem/record-store.js';
import type { WorkFolder } from '../storage/filesystem/work-folder.js';
import { establishIdentity } from '../storage/identity.js';
import { registrySchedule } from '../storage/layout.js';
import { RECORD_STORE, SPOOL_FOLDER, WORK_FOLDER } from '../storage/storage.module.js';
import type { Logger } from '../telemetry/log.js';

/**
 * Makes the store ready for this mirror: its identity, registry's leftovers, what a crash left behind. Without an
 * upstream nothing is written, so that a read-only volume can be served. Throws IdentityConflict, StorageError.
 */
export async function prepareStore(app: INestApplicationContext, config: Config, log: Logger): Promise<void> {
  const { proxy, storage } = config;
  if (proxy.default === undefined && proxy.upstreams.length === 0) {
    log.warn('neither proxy.remoteurl nor proxy.upstreams: serving what is stored, nobody is asked');
    return;
  }
  const records = app.get<FilesystemRecordStore>(RECORD_STORE);
  await establishIdentity(records, proxy.host);
  // registry:2 would delete content by an old schedule when it gets this volume back.
  if (await records.adopt(registrySchedule, `adopted/${registrySchedule}`)) {
    log.info({ root: storage.filesystem.rootdirectory }, "took over a registry's cache");
  }
  for (const folder of new Set([app.get<WorkFolder>(WORK_FOLDER), app.get<WorkFolder>(SPOOL_FOLDER)])) {
    const removed = await folder.sweep();
    if (removed > 0) log.info({ folder: folder.parent, files: removed }, 'removed what a crash left behind');
  }
}
