import { Module } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { ApiClient } from './api-client.js';

/** {@link KubernetesApi}; nothing is read or dialled before its first use. */
export const KUBERNETES = Symbol('KubernetesApi');

@Module({
  providers: [
    {
      provide: KUBERNETES,
      useFactory: ({ cluster }: Config) => new ApiClient(cluster.kubeconfig),
      inject: [CONFIG],
    },
  ],
  exports: [KUBERNETES],
})
export class KubernetesModule {}
