import { Global, Module, type DynamicModule } from '@nestjs/common';
import type { Logger } from './log.js';
import { Metrics } from './metrics.js';
import type { Tracing } from './tracing.js';

export const LOG = Symbol('Logger');

/** A `Tracing`, or `undefined`. */
export const TRACING = Symbol('Tracing');

/** What a process has before its modules: its server already counts. */
export interface Telemetry {
  readonly metrics: Metrics;
  readonly tracing: Tracing | undefined;
}

@Global()
@Module({})
export class TelemetryModule {
  static for(log: Logger, telemetry?: Telemetry): DynamicModule {
    const { metrics, tracing } = telemetry ?? { metrics: new Metrics(), tracing: undefined };
    return {
      module: TelemetryModule,
      providers: [
        { provide: LOG, useValue: log },
        { provide: Metrics, useValue: metrics },
        { provide: TRACING, useFactory: () => tracing },
      ],
      exports: [LOG, Metrics, TRACING],
    };
  }
}
