import { Module, type DynamicModule } from '@nestjs/common';
import { OperationsModule } from './admin/operations.module.js';
import { ConfigModule } from './config/config.module.js';
import type { Config } from './config/config.js';
import { ContentModule } from './content/content.module.js';
import { ScrubModule } from './content/scrub.module.js';
import { HealthModule } from './health/health.module.js';
import { InUseModule } from './inuse/inuse.module.js';
import { NodesModule } from './nodes/nodes.module.js';
import { PrewarmModule } from './prewarm/prewarm.module.js';
import { RegistryModule } from './registry/registry.module.js';
import { SchedulerModule } from './scheduler/scheduler.module.js';
import type { Logger } from './telemetry/log.js';
import { TelemetryModule, type Telemetry } from './telemetry/telemetry.module.js';

/** The whole program: which implementation stands behind which contract is decided in the modules, from the config. */
@Module({})
export class AppModule {
  static for(config: Config, log: Logger, telemetry?: Telemetry): DynamicModule {
    return {
      module: AppModule,
      imports: [
        ConfigModule.for(config),
        TelemetryModule.for(log, telemetry),
        RegistryModule,
        HealthModule,
        NodesModule,
        SchedulerModule,
        ContentModule,
        ScrubModule,
        PrewarmModule,
        InUseModule,
        OperationsModule,
      ],
    };
  }
}
