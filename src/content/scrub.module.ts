import { Inject, Module, type OnModuleInit } from '@nestjs/common';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER, ClusterModule } from '../cluster/cluster.module.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { Scheduler } from '../scheduler/scheduler.js';
import { SchedulerModule } from '../scheduler/scheduler.module.js';
import { BLOB_STORE, DELETES, INVENTORY, RECORD_STORE, StorageModule } from '../storage/storage.module.js';
import type { BlobStore, Deletes, Inventory, RecordStore } from '../storage/storage.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { readSummary } from './content-records.js';
import { ScrubJob, Scrubber } from './scrub.js';

@Module({
  imports: [StorageModule, ClusterModule, SchedulerModule],
  providers: [
    {
      provide: Scrubber,
      useFactory: (
        inventory: Inventory,
        blobs: BlobStore,
        deletes: Deletes,
        records: RecordStore,
        cluster: Cluster,
        log: Logger,
        { scrubbedBytes, rotten }: Metrics,
      ) =>
        new Scrubber({
          inventory,
          blobs,
          deletes,
          coordinator: () => cluster.coordinator,
          expectedBlobs: async () => (await readSummary(records))?.blobs,
          log,
          observer: { read: (bytes) => scrubbedBytes.inc(bytes), rotten: () => rotten.inc() },
        }),
      inject: [INVENTORY, BLOB_STORE, DELETES, RECORD_STORE, CLUSTER, LOG, Metrics],
    },
    {
      provide: ScrubJob,
      useFactory: ({ scheduler }: Config, scrubber: Scrubber) => new ScrubJob(scrubber, scheduler.scrub.rate),
      inject: [CONFIG, Scrubber],
    },
  ],
  exports: [Scrubber],
})
export class ScrubModule implements OnModuleInit {
  constructor(
    @Inject(Scheduler) private readonly scheduler: Scheduler,
    @Inject(ScrubJob) private readonly job: ScrubJob,
  ) {}

  onModuleInit(): void {
    this.scheduler.register(this.job);
  }
}
