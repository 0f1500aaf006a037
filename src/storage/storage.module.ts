import { join } from 'node:path';
import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { Metrics } from '../telemetry/metrics.js';
import { FilesystemBlobStore } from './filesystem/blob-store.js';
import { FilesystemRecordStore } from './filesystem/record-store.js';
import { FilesystemRepositoryStore } from './filesystem/repository-store.js';
import { WorkFolder } from './filesystem/work-folder.js';
import { ownFolder } from './layout.js';
import type { ObserveAction } from './storage.js';

export const BLOB_STORE = Symbol('BlobStore');
export const REPOSITORY_STORE = Symbol('RepositoryStore');
export const RECORD_STORE = Symbol('RecordStore');
/** Unfinished files on the store's own file system. */
export const WORK_FOLDER = Symbol('WorkFolder');
/** Spools; the same as WORK_FOLDER unless `proxy.spool.directory` is set. */
export const SPOOL_FOLDER = Symbol('SpoolFolder');
const OBSERVE = Symbol('ObserveAction');

@Module({
  providers: [
    {
      provide: WORK_FOLDER,
      useFactory: (config: Config) => new WorkFolder(join(rootOf(config), ownFolder, 'spool')),
      inject: [CONFIG],
    },
    {
      provide: SPOOL_FOLDER,
      useFactory: ({ proxy }: Config, work: WorkFolder) =>
        proxy.spool.directory === undefined ? work : new WorkFolder(proxy.spool.directory),
      inject: [CONFIG, WORK_FOLDER],
    },
    {
      provide: OBSERVE,
      useFactory: ({ storageAction }: Metrics): ObserveAction => {
        return (action, started) =>
          storageAction.observe({ driver: 'filesystem', action }, (performance.now() - started) / 1000);
      },
      inject: [Metrics],
    },
    {
      provide: BLOB_STORE,
      useFactory: (config: Config, work: WorkFolder, observe: ObserveAction) =>
        new FilesystemBlobStore(rootOf(config), work, observe),
      inject: [CONFIG, WORK_FOLDER, OBSERVE],
    },
    {
      provide: REPOSITORY_STORE,
      useFactory: (config: Config, work: WorkFolder, observe: ObserveAction) =>
        new FilesystemRepositoryStore(rootOf(config), work, observe),
      inject: [CONFIG, WORK_FOLDER, OBSERVE],
    },
    {
      provide: RECORD_STORE,
      useFactory: (config: Config, work: WorkFolder) => new FilesystemRecordStore(rootOf(config), work),
      inject: [CONFIG, WORK_FOLDER],
    },
  ],
  exports: [BLOB_STORE, REPOSITORY_STORE, RECORD_STORE, WORK_FOLDER, SPOOL_FOLDER],
})
export class StorageModule implements OnModuleDestroy {
  constructor(
    @Inject(WORK_FOLDER) private readonly work: WorkFolder,
    @Inject(SPOOL_FOLDER) private readonly spools: WorkFolder,
  ) {}

  async onModuleDestroy(): Promise<void> {
    await this.work[Symbol.asyncDispose]();
    if (this.spools !== this.work) await this.spools[Symbol.asyncDispose]();
  }
}

function rootOf(config: Config): string {
  return config.storage.filesystem.rootdirectory;
}
