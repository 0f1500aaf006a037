import { Global, Module, type DynamicModule } from '@nestjs/common';
import type { Logger } from './log.js';
import { Metrics } from './metrics.js';

export const LOG = Symbol('Logger');

@Global()
@Module({})
export class TelemetryModule {
  static for(log: Logger): DynamicModule {
    return {
      module: TelemetryModule,
      providers: [
        { provide: LOG, useValue: log },
        { provide: Metrics, useFactory: () => new Metrics() },
      ],
      exports: [LOG, Metrics],
    };
  }
}
