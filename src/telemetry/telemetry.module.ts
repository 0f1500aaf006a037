import { Global, Module, type DynamicModule } from '@nestjs/common';
import type { Logger } from './log.js';
import { Metrics } from './metrics.js';

export const LOG = Symbol('Logger');

/** What a process has before its modules: its server already counts. */
export interface Telemetry {
  readonly metrics: Metrics;
}

@Global()
@Module({})
export class TelemetryModule {
  static for(log: Logger, { metrics }: Telemetry = { metrics: new Metrics() }): DynamicModule {
    return {
      module: TelemetryModule,
      providers: [
        { provide: LOG, useValue: log },
        { provide: Metrics, useValue: metrics },
      ],
      exports: [LOG, Metrics],
    };
  }
}
