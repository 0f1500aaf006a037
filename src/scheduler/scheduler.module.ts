import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER, ClusterModule } from '../cluster/cluster.module.js';
import { CONFIG } from '../config/config.module.js';
import type { Config, SchedulerConfig } from '../config/config.js';
import { RECORD_STORE, StorageModule } from '../storage/storage.module.js';
import type { RecordStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LOG } from '../telemetry/telemetry.module.js';
import { InUseRecords } from '../usage/in-use.js';
import { UsageModule } from '../usage/usage.module.js';
import { Deletion } from './deletion.js';
import { Scheduler, type SchedulerParts } from './scheduler.js';

/** How long jobs may take to notice that they are to end. */
const patienceMs = 10_000;

@Module({
  imports: [StorageModule, ClusterModule, UsageModule],
  providers: [
    {
      provide: Deletion,
      useFactory: ({ storage, scheduler }: Config, cluster: Cluster, inUse: InUseRecords) =>
        new Deletion(storage.delete.enabled, scheduler.grace, cluster, inUse),
      inject: [CONFIG, CLUSTER, InUseRecords],
    },
    {
      provide: Scheduler,
      useFactory: (
        config: Config,
        records: RecordStore,
        cluster: Cluster,
        deletion: Deletion,
        log: Logger,
        metrics: Metrics,
      ) =>
        new Scheduler({
          records,
          cluster,
          schedules: schedulesOf(config.scheduler),
          shared: config.redis !== undefined,
          mayDelete: () => deletion.allowed(),
          runner: `${hostname()}:${randomBytes(4).toString('hex')}`,
          log,
          metrics,
        }),
      inject: [CONFIG, RECORD_STORE, CLUSTER, Deletion, LOG, Metrics],
    },
  ],
  exports: [Scheduler, Deletion],
})
export class SchedulerModule implements OnModuleDestroy {
  constructor(@Inject(Scheduler) private readonly scheduler: Scheduler) {}

  onModuleDestroy(): Promise<void> {
    return this.scheduler.stop(AbortSignal.timeout(patienceMs));
  }
}

function schedulesOf(config: SchedulerConfig): SchedulerParts['schedules'] {
  const { expire, evict, reindex, sweep, scrub, prewarm } = config;
  return {
    expire: expire.schedule,
    evict: evict.schedule,
    reindex: reindex.schedule,
    sweep: sweep.schedule,
    scrub: scrub.schedule,
    prewarm: prewarm.images.length === 0 ? { kind: 'never' } : prewarm.schedule,
  };
}
