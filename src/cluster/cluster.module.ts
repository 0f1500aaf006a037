import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import type { JoiningCluster } from './cluster.js';
import { LocalCluster } from './local/cluster.js';

export const CLUSTER = Symbol('Cluster');

@Module({
  providers: [{ provide: CLUSTER, useFactory: openCluster, inject: [CONFIG, LOG, Metrics] }],
  exports: [CLUSTER],
})
export class ClusterModule implements OnModuleDestroy {
  constructor(@Inject(CLUSTER) private readonly cluster: JoiningCluster) {}

  onModuleDestroy(): void {
    this.cluster.close();
  }
}

/** The client of Redis is loaded where there is one: it takes several megabytes of every process. */
async function openCluster(config: Config, log: Logger, metrics: Metrics): Promise<JoiningCluster> {
  const { redis, scheduler } = config;
  if (redis === undefined) return new LocalCluster(scheduler.grace);
  const { RedisCluster } = await import('./redis/redis-cluster.js');
  return new RedisCluster({ ...config, redis }, log, metrics);
}
