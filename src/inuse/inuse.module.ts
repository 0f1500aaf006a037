import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER, ClusterModule } from '../cluster/cluster.module.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import type { KubernetesApi } from '../kubernetes/kubernetes.js';
import { KUBERNETES, KubernetesModule } from '../kubernetes/kubernetes.module.js';
import { ImageWarmer } from '../prewarm/image-warmer.js';
import { PrewarmModule } from '../prewarm/prewarm.module.js';
import { JobLeases } from '../scheduler/leases.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LOG } from '../telemetry/telemetry.module.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { UpstreamModule } from '../upstream/upstream.module.js';
import { InUseRecords } from '../usage/in-use.js';
import { UsageModule } from '../usage/usage.module.js';
import { DockerApi } from './docker-api.js';
import { DockerImages } from './docker-images.js';
import { imageHere } from './image-names.js';
import type { ImageSource } from './image-source.js';
import { InUseWatch } from './in-use-watch.js';
import { InUseWatches } from './in-use-watches.js';
import { Newcomers } from './newcomers.js';
import { RunningPods } from './running-pods.js';

interface WatchedSource {
  readonly source: ImageSource;
  readonly prewarm: boolean;
}

@Module({
  imports: [KubernetesModule, UpstreamModule, UsageModule, ClusterModule, PrewarmModule],
  providers: [
    {
      provide: InUseWatches,
      useFactory: (
        { scheduler, redis }: Config,
        api: KubernetesApi,
        directory: UpstreamDirectory,
        records: InUseRecords,
        cluster: Cluster,
        warmer: ImageWarmer,
        log: Logger,
        metrics: Metrics,
      ) => {
        const leases = new JobLeases(cluster);
        const shared = redis !== undefined;
        const sources = sourcesOf(scheduler.inuse, { api, directory, log, metrics });
        const watches = sources.map(({ source, prewarm }) => {
          const newcomers = prewarm ? new Newcomers({ warmer, directory, log }) : undefined;
          return new InUseWatch({ source, records, leases, shared, newcomers, log, metrics });
        });
        return new InUseWatches(watches);
      },
      inject: [CONFIG, KUBERNETES, UpstreamDirectory, InUseRecords, CLUSTER, ImageWarmer, LOG, Metrics],
    },
  ],
})
export class InUseModule implements OnModuleDestroy {
  constructor(@Inject(InUseWatches) private readonly watches: InUseWatches) {}

  onModuleDestroy(): Promise<void> {
    return this.watches.stop();
  }
}

function sourcesOf(
  { kubernetes, docker }: Config['scheduler']['inuse'],
  parts: {
    readonly api: KubernetesApi;
    readonly directory: UpstreamDirectory;
    readonly log: Logger;
    readonly metrics: Metrics;
  },
): WatchedSource[] {
  const { directory, log } = parts;
  const found: WatchedSource[] = [];
  const here = (text: string): string | undefined => imageHere(text, directory);
  if (kubernetes.enabled) {
    const source = new RunningPods({ ...parts, namespaces: kubernetes.namespaces, imageHere: here });
    found.push({ source, prewarm: kubernetes.prewarm });
  }
  if (docker.socket !== undefined) {
    const api = new DockerApi(docker.socket);
    const source = new DockerImages({ api, intervalMs: docker.interval, imageHere: here, log });
    found.push({ source, prewarm: docker.prewarm });
  }
  return found;
}
