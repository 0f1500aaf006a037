import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LOG, TRACING } from '../telemetry/telemetry.module.js';
import type { Tracing } from '../telemetry/tracing.js';
import { FilesystemBlobStore } from './filesystem/blob-store.js';
import { FilesystemDeletes } from './filesystem/deletes.js';
import { FilesystemInventory } from './filesystem/inventory.js';
import { FilesystemRecordStore } from './filesystem/record-store.js';
import { FilesystemLinks } from './filesystem/links.js';
import { LinkedRepositories } from './linked-repositories.js';
import { WorkFolder } from './filesystem/work-folder.js';
import { localSpools, ownFolder } from './layout.js';
import type { ObserveAction, Stores } from './storage.js';

export const BLOB_STORE = Symbol('BlobStore');
export const REPOSITORY_STORE = Symbol('RepositoryStore');
export const RECORD_STORE = Symbol('RecordStore');
export const INVENTORY = Symbol('Inventory');
export const DELETES = Symbol('Deletes');
/** Throws where the storage cannot be used. */
export const STORAGE_PROBE = Symbol('StorageProbe');
/** Unfinished files: on the store's own file system, where it is one. */
export const WORK_FOLDER = Symbol('WorkFolder');
/** Spools; the same as WORK_FOLDER unless `proxy.spool.directory` is set. */
export const SPOOL_FOLDER = Symbol('SpoolFolder');
const STORES = Symbol('Stores');

@Module({
  providers: [
    {
      provide: WORK_FOLDER,
      useFactory: ({ storage, proxy }: Config) =>
        new WorkFolder(
          storage.driver === 'filesystem'
            ? join(storage.filesystem.rootdirectory, ownFolder, 'spool')
            : (proxy.spool.directory ?? localSpools),
        ),
      inject: [CONFIG],
    },
    {
      provide: SPOOL_FOLDER,
      useFactory: ({ proxy }: Config, work: WorkFolder) =>
        proxy.spool.directory === undefined || proxy.spool.directory === work.parent
          ? work
          : new WorkFolder(proxy.spool.directory),
      inject: [CONFIG, WORK_FOLDER],
    },
    { provide: STORES, useFactory: openStores, inject: [CONFIG, WORK_FOLDER, Metrics, TRACING, LOG] },
    { provide: BLOB_STORE, useFactory: ({ blobs }: Stores) => blobs, inject: [STORES] },
    { provide: REPOSITORY_STORE, useFactory: ({ repositories }: Stores) => repositories, inject: [STORES] },
    { provide: RECORD_STORE, useFactory: ({ records }: Stores) => records, inject: [STORES] },
    { provide: INVENTORY, useFactory: ({ inventory }: Stores) => inventory, inject: [STORES] },
    { provide: DELETES, useFactory: ({ deletes }: Stores) => deletes, inject: [STORES] },
    { provide: STORAGE_PROBE, useFactory: ({ probe }: Stores) => probe, inject: [STORES] },
  ],
  exports: [
    BLOB_STORE,
    REPOSITORY_STORE,
    RECORD_STORE,
    INVENTORY,
    DELETES,
    STORAGE_PROBE,
    WORK_FOLDER,
    SPOOL_FOLDER,
  ],
})
export class StorageModule implements OnModuleDestroy {
  constructor(
    @Inject(WORK_FOLDER) private readonly work: WorkFolder,
    @Inject(SPOOL_FOLDER) private readonly spools: WorkFolder,
    @Inject(STORES) private readonly stores: Stores,
  ) {}

  async onModuleDestroy(): Promise<void> {
    this.stores.close();
    await this.work[Symbol.asyncDispose]();
    if (this.spools !== this.work) await this.spools[Symbol.asyncDispose]();
  }
}

async function openStores(
  { storage, scheduler }: Config,
  work: WorkFolder,
  metrics: Metrics,
  tracing: Tracing | undefined,
  log: Logger,
): Promise<Stores> {
  if (storage.driver === 'filesystem') {
    return openFolder(storage.filesystem.rootdirectory, work, observeAs('filesystem', metrics, tracing));
  }
  const { openBucket } = await import('./s3/open-bucket.js'); // with a library that nothing else needs
  const observe = observeAs('s3aws', metrics, tracing); // registry's own name of its driver
  return openBucket(storage.s3, scheduler.grace, log, observe);
}

function openFolder(root: string, work: WorkFolder, observe: ObserveAction): Stores {
  const links = new FilesystemLinks(root, work, observe);
  const records = new FilesystemRecordStore(root, work);
  return {
    blobs: new FilesystemBlobStore(root, work, observe),
    repositories: new LinkedRepositories(links, records),
    records,
    inventory: new FilesystemInventory(root, work, links, observe),
    deletes: new FilesystemDeletes(root, observe),
    probe: () => probeFolder(root),
    close: () => undefined,
  };
}

function observeAs(driver: string, { storageAction }: Metrics, tracing: Tracing | undefined): ObserveAction {
  return (action, started) => {
    storageAction.observe({ driver, action }, (performance.now() - started) / 1000);
    tracing?.record(`storage ${action}`, started, { attributes: { 'cistern.driver': driver } });
  };
}

/** As registry:2 does: the root can be listed. A root that does not exist yet is an empty store. */
async function probeFolder(root: string): Promise<void> {
  try {
    await access(root, constants.R_OK | constants.X_OK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
