import { Inject, Module, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER, ClusterModule } from '../cluster/cluster.module.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import type { Repository } from '../oci/name.js';
import { ProxyModule } from '../proxy/proxy.module.js';
import type { JobSummary } from '../scheduler/job.js';
import { Scheduler } from '../scheduler/scheduler.js';
import { SchedulerModule } from '../scheduler/scheduler.module.js';
import type { WorkFolder } from '../storage/filesystem/work-folder.js';
import { sweepUploads } from '../storage/leftovers.js';
import {
  BLOB_STORE,
  DELETES,
  INVENTORY,
  RECORD_STORE,
  REPOSITORY_STORE,
  SPOOL_FOLDER,
  StorageModule,
  WORK_FOLDER,
} from '../storage/storage.module.js';
import {
  type BlobStore,
  type Deletes,
  type Inventory,
  type RecordStore,
  type RepositoryStore,
} from '../storage/storage.js';
import { Metrics } from '../telemetry/metrics.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { UpstreamModule } from '../upstream/upstream.module.js';
import { InUseRecords } from '../usage/in-use.js';
import { USAGE_HISTORY, UsageModule } from '../usage/usage.module.js';
import type { UsageHistory } from '../usage/usage.js';
import { BlobRemoval } from './blob-removal.js';
import { BlobRemovalModule, DELETION_WAIT } from './blob-removal.module.js';
import { StorageClock } from './storage-clock.js';
import { StoredContent } from './stored-content.js';

/** {@link ContentKeeper}. */
export const CONTENT_KEEPER = Symbol('ContentKeeper');

@Module({
  imports: [
    StorageModule,
    ClusterModule,
    UsageModule,
    UpstreamModule,
    ProxyModule,
    BlobRemovalModule,
    SchedulerModule,
  ],
  providers: [
    {
      provide: CONTENT_KEEPER,
      useFactory: (
        config: Config,
        directory: UpstreamDirectory,
        inventory: Inventory,
        deletes: Deletes,
        blobs: BlobStore,
        repositories: RepositoryStore,
        records: RecordStore,
        work: WorkFolder,
        spools: WorkFolder,
        removal: BlobRemoval,
        waitMs: number,
        usage: UsageHistory,
        inUse: InUseRecords,
        cluster: Cluster,
        { storedBlobs, storedBytes, storedLimit }: Metrics,
      ) => {
        storedLimit.set(config.proxy.maxsize ?? Infinity);
        return new StoredContent({
          inventory,
          deletes,
          blobs,
          repositories,
          records,
          removal,
          clock: new StorageClock(inventory),
          usage,
          inUse,
          cluster,
          newFile: () => spools.newFile('index'),
          ...timesToLive(config, directory),
          graceMs: config.scheduler.grace,
          waitMs,
          maxBytes: config.proxy.maxsize,
          minFreeBytes: config.proxy.minfree,
          freeBytes: async () => {
            await work.newFile('free');
            return work.freeBytes();
          },
          sweepLeftovers: () => sweepLeftovers(blobs, [work, spools]),
          observe: (totals) => {
            storedBlobs.set(totals.blobs);
            storedBytes.set(totals.bytes);
          },
        });
      },
      inject: [
        CONFIG,
        UpstreamDirectory,
        INVENTORY,
        DELETES,
        BLOB_STORE,
        REPOSITORY_STORE,
        RECORD_STORE,
        WORK_FOLDER,
        SPOOL_FOLDER,
        BlobRemoval,
        DELETION_WAIT,
        USAGE_HISTORY,
        InUseRecords,
        CLUSTER,
        Metrics,
      ],
    },
  ],
  exports: [CONTENT_KEEPER],
})
export class ContentModule implements OnModuleInit, OnModuleDestroy {
  constructor(
    @Inject(Scheduler) private readonly scheduler: Scheduler,
    @Inject(CONTENT_KEEPER) private readonly content: StoredContent,
  ) {}

  onModuleInit(): void {
    const { scheduler, content } = this;
    scheduler.register({ name: 'expire', run: (run) => content.expire(run) });
    scheduler.register({ name: 'evict', run: (run) => content.evict(run) });
    scheduler.register({ name: 'reindex', run: (run) => content.reindex(run) });
    scheduler.register({ name: 'sweep', run: (run) => content.sweep(run) });
  }

  onModuleDestroy(): void {
    this.content.close();
  }
}

function timesToLive(
  { proxy }: Config,
  directory: UpstreamDirectory,
): {
  readonly ttlOf: (repository: Repository) => number;
  readonly ttls: string;
  readonly shortestTtlMs: number | undefined;
} {
  const byHost = new Map(proxy.upstreams.map(({ host, ttl }) => [host, ttl]));
  const finite = [proxy.ttl, ...byHost.values()].filter((ttl) => ttl > 0);
  return {
    ttlOf: (repository) => byHost.get(directory.placeOf(repository).host) ?? proxy.ttl,
    ttls: JSON.stringify([proxy.ttl, ...byHost]),
    shortestTtlMs: finite.length === 0 ? undefined : Math.min(...finite),
  };
}

async function sweepLeftovers(blobs: BlobStore, folders: readonly WorkFolder[]): Promise<JobSummary> {
  let files = 0;
  for (const folder of new Set(folders)) files += await folder.sweep();
  return { files, uploads: await sweepUploads(blobs) };
}
