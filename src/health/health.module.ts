import { access, constants } from 'node:fs/promises';
import { Inject, Module, type DynamicModule, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config, DebugConfig } from '../config/config.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LOG } from '../telemetry/telemetry.module.js';
import { DebugHealthController, metricsController } from './debug.controller.js';
import { Health } from './health.js';
import { ProbesController } from './probes.controller.js';

/** The probes of the public port. */
@Module({
  controllers: [ProbesController],
  providers: [
    {
      provide: Health,
      useFactory: ({ health, storage }: Config, log: Logger) =>
        new Health(health, () => probe(storage.filesystem.rootdirectory), log),
      inject: [CONFIG, LOG],
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

/** The debug port: an application of its own, so that nothing of it can be reached through the public one. */
@Module({})
export class DebugModule {
  static for({ prometheus }: DebugConfig, health: Health, metrics: Metrics): DynamicModule {
    return {
      module: DebugModule,
      controllers: [
        ProbesController,
        DebugHealthController,
        ...(prometheus.enabled ? [metricsController(prometheus.path)] : []),
      ],
      providers: [
        { provide: Health, useValue: health },
        { provide: Metrics, useValue: metrics },
      ],
    };
  }
}

/** As registry:2 does: the root can be listed. A root that does not exist yet is an empty store. */
async function probe(root: string): Promise<void> {
  try {
    await access(root, constants.R_OK | constants.X_OK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
