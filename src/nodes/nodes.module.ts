import { Module } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import type { AccessControl } from '../registry/access-control.js';
import { ClientAddresses } from '../registry/client-address.js';
import { ACCESS_CONTROL, RegistryModule } from '../registry/registry.module.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { UpstreamModule } from '../upstream/upstream.module.js';
import { Guide } from './guide.js';
import { NodesController } from './nodes.controller.js';

/** What machines that pull need to know. */
@Module({
  imports: [RegistryModule, UpstreamModule],
  controllers: [NodesController],
  providers: [
    {
      provide: Guide,
      useFactory: (
        { proxy }: Config,
        directory: UpstreamDirectory,
        addresses: ClientAddresses,
        control: AccessControl | undefined,
      ) => {
        const verified = [proxy.default, ...proxy.upstreams].filter(
          (upstream) => upstream?.verifycaller === true,
        );
        const hosts = verified.flatMap((upstream) => upstream?.host ?? []);
        return new Guide({ directory, addresses, control, verified: new Set(hosts) });
      },
      inject: [CONFIG, UpstreamDirectory, ClientAddresses, ACCESS_CONTROL],
    },
  ],
})
export class NodesModule {}
