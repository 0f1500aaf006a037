import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config, SchedulerConfig } from '../config/config.js';
import { RECORD_STORE, StorageModule } from '../storage/storage.module.js';
import type { RecordStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { LOG } from '../telemetry/telemetry.module.js';
import { InUseRecords, type InUseSource } from './in-use.js';
import { StoredUsage } from './stored-usage.js';
import { unrecorded, UsageLog } from './usage-log.js';

/** UsageRecorder */
export const USAGE_RECORDER = Symbol('UsageRecorder');
/** UsageHistory */
export const USAGE_HISTORY = Symbol('UsageHistory');

@Module({
  imports: [StorageModule],
  providers: [
    {
      provide: UsageLog,
      useFactory: ({ scheduler }: Config, records: RecordStore, log: Logger) =>
        new UsageLog(records, log, scheduler.grace),
      inject: [CONFIG, RECORD_STORE, LOG],
    },
    {
      provide: USAGE_RECORDER,
      useFactory: ({ proxy }: Config, usage: UsageLog) =>
        proxy.default === undefined && proxy.upstreams.length === 0 ? unrecorded : usage,
      inject: [CONFIG, UsageLog],
    },
    {
      provide: USAGE_HISTORY,
      useFactory: (...parts: ConstructorParameters<typeof StoredUsage>) => new StoredUsage(...parts),
      inject: [RECORD_STORE, UsageLog, LOG],
    },
    {
      provide: InUseRecords,
      useFactory: ({ scheduler }: Config, records: RecordStore, log: Logger) =>
        new InUseRecords(records, sourcesOf(scheduler), scheduler.inuse.keep, log),
      inject: [CONFIG, RECORD_STORE, LOG],
    },
  ],
  exports: [USAGE_RECORDER, USAGE_HISTORY, InUseRecords],
})
export class UsageModule implements OnModuleDestroy {
  constructor(@Inject(UsageLog) private readonly usage: UsageLog) {}

  onModuleDestroy(): Promise<void> {
    return this.usage.close();
  }
}

function sourcesOf({ inuse: { kubernetes, docker } }: SchedulerConfig): InUseSource[] {
  return [
    ...(kubernetes.enabled ? (['kubernetes'] as const) : []),
    ...(docker.socket === undefined ? [] : (['docker'] as const)),
  ];
}
