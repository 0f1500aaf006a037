import { Inject, Module, type OnModuleInit } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { Scheduler } from '../scheduler/scheduler.js';
import { SchedulerModule } from '../scheduler/scheduler.module.js';
import { BLOB_STORE, INVENTORY, RECORD_STORE, StorageModule } from '../storage/storage.module.js';
import type { BlobStore, Inventory, RecordStore } from '../storage/storage.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { BlobRemoval } from './blob-removal.js';
import { BlobRemovalModule, DELETION_WAIT } from './blob-removal.module.js';
import { readSummary } from './content-records.js';
import { ScrubJob, Scrubber } from './scrub.js';

@Module({
  imports: [StorageModule, BlobRemovalModule, SchedulerModule],
  providers: [
    {
      provide: Scrubber,
      useFactory: (
        inventory: Inventory,
        blobs: BlobStore,
        removal: BlobRemoval,
        waitMs: number,
        records: RecordStore,
        log: Logger,
        { scrubbedBytes, rotten }: Metrics,
      ) =>
        new Scrubber({
          inventory,
          blobs,
          removal,
          waitMs,
          expectedBlobs: async () => (await readSummary(records))?.blobs,
          log,
          observer: { read: (bytes) => scrubbedBytes.inc(bytes), rotten: () => rotten.inc() },
        }),
      inject: [INVENTORY, BLOB_STORE, BlobRemoval, DELETION_WAIT, RECORD_STORE, LOG, Metrics],
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
