import { Module } from '@nestjs/common';
import { CONTENT_KEEPER, ContentModule } from '../content/content.module.js';
import type { ContentKeeper } from '../content/content.js';
import { Scrubber } from '../content/scrub.js';
import { ScrubModule } from '../content/scrub.module.js';
import { ImageWarmer } from '../prewarm/image-warmer.js';
import { PrewarmModule } from '../prewarm/prewarm.module.js';
import { ProxyModule } from '../proxy/proxy.module.js';
import { Tags } from '../proxy/tags.js';
import { Deletion } from '../scheduler/deletion.js';
import { Scheduler } from '../scheduler/scheduler.js';
import { SchedulerModule } from '../scheduler/scheduler.module.js';
import { BLOB_STORE, RECORD_STORE, REPOSITORY_STORE, StorageModule } from '../storage/storage.module.js';
import type { BlobStore, RecordStore, RepositoryStore } from '../storage/storage.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { UpstreamModule } from '../upstream/upstream.module.js';
import { AdminAccess } from './access.js';
import { Operations } from './operations.js';

/** What operators may have done, wherever they ask for it. */
@Module({
  imports: [
    StorageModule,
    ProxyModule,
    UpstreamModule,
    SchedulerModule,
    ContentModule,
    ScrubModule,
    PrewarmModule,
  ],
  providers: [
    {
      provide: Operations,
      useFactory: (
        keeper: ContentKeeper,
        scheduler: Scheduler,
        deletion: Deletion,
        scrubber: Scrubber,
        warmer: ImageWarmer,
        directory: UpstreamDirectory,
        tags: Tags,
        repositories: RepositoryStore,
        blobs: BlobStore,
        log: Logger,
      ) =>
        new Operations({
          keeper,
          scheduler,
          undeletable: () => deletion.obstacle(),
          scrubber,
          warmer,
          directory,
          tags,
          repositories,
          blobs,
          log,
        }),
      inject: [
        CONTENT_KEEPER,
        Scheduler,
        Deletion,
        Scrubber,
        ImageWarmer,
        UpstreamDirectory,
        Tags,
        REPOSITORY_STORE,
        BLOB_STORE,
        LOG,
      ],
    },
    {
      provide: AdminAccess,
      useFactory: (records: RecordStore) => new AdminAccess(records),
      inject: [RECORD_STORE],
    },
  ],
  exports: [Operations, AdminAccess],
})
export class OperationsModule {}
