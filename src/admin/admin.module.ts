import { Module, type DynamicModule } from '@nestjs/common';
import { AdminAccess } from './access.js';
import { AdminController, ADMINISTRATION, OpenApiController } from './admin.controller.js';
import type { Administration } from './admin.js';

/** The admin API, for whatever port it is served on. */
@Module({})
export class AdminModule {
  static for(administration: Administration, access: AdminAccess): DynamicModule {
    return {
      module: AdminModule,
      controllers: [OpenApiController, AdminController],
      providers: [
        { provide: ADMINISTRATION, useValue: administration },
        { provide: AdminAccess, useValue: access },
      ],
    };
  }
}
