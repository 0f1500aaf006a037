import { Inject, Module, type DynamicModule, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config, DebugConfig } from '../config/config.js';
import { STORAGE_PROBE, StorageModule } from '../storage/storage.module.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LOG } from '../telemetry/telemetry.module.js';
import { DebugHealthController, metricsController, StatusController } from './debug.controller.js';
import { Health } from './health.js';
import { ProbesController } from './probes.controller.js';
import { StatusReport } from './status.js';

/** The probes of the public port. */
@Module({
  imports: [StorageModule],
  controllers: [ProbesController],
  providers: [
    {
      provide: Health,
      useFactory: ({ health, storage }: Config, probe: () => Promise<void>, log: Logger) =>
        new Health(health, { driver: storage.driver, probe }, log),
      inject: [CONFIG, STORAGE_PROBE, LOG],
    },
  ],
  exports: [Health],
})
export class HealthModule implements OnModuleInit, OnModuleDestroy {
  constructor(@Inject(Health) private readonly health: Health) {}

  onModuleInit(): void {
    this.health.start();
  }

  onModuleDestroy(): void {
    this.health.stop();
  }
}

export interface DebugParts {
  readonly health: Health;
  readonly metrics: Metrics;
  readonly status: StatusReport;
}

/** The debug port: an application of its own, so that nothing of it can be reached through the public one. */
@Module({})
export class DebugModule {
  static for(
    { prometheus }: DebugConfig,
    { health, metrics, status }: DebugParts,
    admin: DynamicModule,
  ): DynamicModule {
    return {
      module: DebugModule,
      imports: [admin],
      controllers: [
        ProbesController,
        DebugHealthController,
        StatusController,
        ...(prometheus.enabled ? [metricsController(prometheus.path)] : []),
      ],
      providers: [
        { provide: Health, useValue: health },
        { provide: Metrics, useValue: metrics },
        { provide: StatusReport, useValue: status },
      ],
    };
  }
}
