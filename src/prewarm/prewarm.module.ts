import { Inject, Module, type OnModuleInit } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { Blobs } from '../proxy/blobs.js';
import { Manifests } from '../proxy/manifests.js';
import { ProxyModule } from '../proxy/proxy.module.js';
import { Tags } from '../proxy/tags.js';
import { Transfers } from '../proxy/transfers.js';
import { Scheduler } from '../scheduler/scheduler.js';
import { SchedulerModule } from '../scheduler/scheduler.module.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { UpstreamModule } from '../upstream/upstream.module.js';
import { USAGE_RECORDER, UsageModule } from '../usage/usage.module.js';
import type { UsageRecorder } from '../usage/usage.js';
import { ImageWarmer } from './image-warmer.js';
import { PrewarmJob } from './prewarm-job.js';

@Module({
  imports: [ProxyModule, UpstreamModule, UsageModule, SchedulerModule],
  providers: [
    {
      provide: ImageWarmer,
      useFactory: (
        directory: UpstreamDirectory,
        tags: Tags,
        manifests: Manifests,
        blobs: Blobs,
        transfers: Transfers,
        usage: UsageRecorder,
        log: Logger,
      ) => new ImageWarmer({ directory, tags, manifests, blobs, transfers, usage, log }),
      inject: [UpstreamDirectory, Tags, Manifests, Blobs, Transfers, USAGE_RECORDER, LOG],
    },
    {
      provide: PrewarmJob,
      useFactory: ({ scheduler }: Config, warmer: ImageWarmer, log: Logger) =>
        new PrewarmJob({ warmer, images: scheduler.prewarm.images, log }),
      inject: [CONFIG, ImageWarmer, LOG],
    },
  ],
  exports: [ImageWarmer],
})
export class PrewarmModule implements OnModuleInit {
  constructor(
    @Inject(Scheduler) private readonly scheduler: Scheduler,
    @Inject(PrewarmJob) private readonly job: PrewarmJob,
  ) {}

  onModuleInit(): void {
    this.scheduler.register(this.job);
  }
}
