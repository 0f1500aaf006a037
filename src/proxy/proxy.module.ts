import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER, ClusterModule } from '../cluster/cluster.module.js';
import { memoryLifetime, repeatLifetime } from '../cluster/local/caches.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { digestOf, hexOf, type Digest } from '../oci/digest.js';
import {
  BLOB_STORE,
  RECORD_STORE,
  REPOSITORY_STORE,
  SPOOL_FOLDER,
  StorageModule,
} from '../storage/storage.module.js';
import type { WorkFolder } from '../storage/filesystem/work-folder.js';
import { LocalCopies } from '../storage/local-copies.js';
import { presigns, uploadsEarly, type BlobStore, type RepositoryStore } from '../storage/storage.js';
import { LOG, TRACING } from '../telemetry/telemetry.module.js';
import type { Tracing } from '../telemetry/tracing.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { USAGE_RECORDER, UsageModule } from '../usage/usage.module.js';
import type { UsageRecorder } from '../usage/usage.js';
import { Blobs } from './blobs.js';
import { ExpectedSizes } from './expected-sizes.js';
import { Listings } from './listings.js';
import { Shelf } from './local-filler.js';
import { Manifests } from './manifests.js';
import { Siblings } from './siblings.js';
import { StoreTrouble } from './store-trouble.js';
import { Tags } from './tags.js';
import { Transfers } from './transfers.js';

/** `proxy.freshness` in milliseconds. */
const FRESHNESS = Symbol('Freshness');
/** For how many milliseconds memory stands for the storage. */
const LIFETIME = Symbol('Lifetime');
/** And for how many an answer made from memory may be given again. */
export const REPEAT_LIFETIME = Symbol('RepeatLifetime');
/** The blob store, where clients may be sent to it. */
const PRESIGNING = Symbol('Presigning');
/** The blob store; one that is far away with copies on this machine. */
const NEAR_BLOBS = Symbol('NearBlobs');

@Module({
  imports: [StorageModule, ClusterModule, UsageModule],
  providers: [
    {
      provide: ExpectedSizes,
      useFactory: (log: Logger, metrics: Metrics) => new ExpectedSizes(log, metrics),
      inject: [LOG, Metrics],
    },
    {
      provide: LIFETIME,
      useFactory: ({ scheduler }: Config) => memoryLifetime(scheduler.grace),
      inject: [CONFIG],
    },
    {
      provide: REPEAT_LIFETIME,
      useFactory: ({ scheduler }: Config) => repeatLifetime(scheduler.grace),
      inject: [CONFIG],
    },
    {
      provide: StoreTrouble,
      useFactory: (blobs: BlobStore, log: Logger, metrics: Metrics) =>
        new StoreTrouble(log, metrics, () => blobs.stat(digestOf(Buffer.alloc(0), 'sha256'))),
      inject: [BLOB_STORE, LOG, Metrics],
    },
    {
      provide: NEAR_BLOBS,
      useFactory: (
        { storage }: Config,
        store: BlobStore,
        spools: WorkFolder,
        lifetimeMs: number,
        log: Logger,
        metrics: Metrics,
      ): BlobStore => {
        const maxBytes = storage.driver === 's3' && storage.redirect.disable ? storage.s3.localcopies : 0;
        if (maxBytes === 0 || !uploadsEarly(store)) return store;
        const newFile = (digest: Digest): Promise<string> => spools.newFile(fileNameOf(digest));
        const freeBytes = (): Promise<number | undefined> => spools.freeBytes();
        return new LocalCopies(store, { newFile, freeBytes, maxBytes, lifetimeMs, log, metrics });
      },
      inject: [CONFIG, BLOB_STORE, SPOOL_FOLDER, LIFETIME, LOG, Metrics],
    },
    {
      provide: Transfers,
      useFactory: (
        { proxy }: Config,
        blobs: BlobStore,
        repositories: RepositoryStore,
        spools: WorkFolder,
        cluster: Cluster,
        trouble: StoreTrouble,
        sizes: ExpectedSizes,
        usage: UsageRecorder,
        log: Logger,
        metrics: Metrics,
        tracing: Tracing | undefined,
      ) => {
        metrics.spoolLimit.set(proxy.spool.maxsize);
        return new Transfers({
          shelf: new Shelf({ blobs, repositories, cluster, sizes, usage }),
          cluster,
          newSpoolFile: (digest) => spools.newFile(fileNameOf(digest)),
          freeSpoolBytes: () => spools.freeBytes(),
          maxSpoolBytes: proxy.spool.maxsize,
          maxTransfers: proxy.maxtransfers,
          maxBlobBytes: proxy.maxblobsize ?? Infinity,
          trouble,
          log,
          metrics,
          tracing,
        });
      },
      inject: [
        CONFIG,
        NEAR_BLOBS,
        REPOSITORY_STORE,
        SPOOL_FOLDER,
        CLUSTER,
        StoreTrouble,
        ExpectedSizes,
        USAGE_RECORDER,
        LOG,
        Metrics,
        TRACING,
      ],
    },
    { provide: FRESHNESS, useFactory: ({ proxy }: Config) => proxy.freshness, inject: [CONFIG] },
    {
      provide: PRESIGNING,
      useFactory: ({ storage }: Config, blobs: BlobStore) =>
        presigns(blobs) && !storage.redirect.disable ? blobs : undefined,
      inject: [CONFIG, BLOB_STORE],
    },
    {
      provide: Blobs,
      useFactory: (...parts: ConstructorParameters<typeof Blobs>) => new Blobs(...parts),
      inject: [
        NEAR_BLOBS,
        REPOSITORY_STORE,
        Transfers,
        StoreTrouble,
        LOG,
        Metrics,
        CLUSTER,
        PRESIGNING,
        ExpectedSizes,
      ],
    },
    {
      provide: Siblings,
      useFactory: ({ proxy }: Config, blobs: Blobs, transfers: Transfers, log: Logger, metrics: Metrics) => {
        const upstreams = [proxy.default, ...proxy.upstreams].filter((config) => config !== undefined);
        const hosts = new Set(upstreams.filter(({ siblings }) => siblings).map(({ host }) => host));
        return new Siblings({ blobs, transfers, hosts, maxTransfers: proxy.maxtransfers, log, metrics });
      },
      inject: [CONFIG, Blobs, Transfers, LOG, Metrics],
    },
    {
      provide: Manifests,
      useFactory: (...parts: ConstructorParameters<typeof Manifests>) => new Manifests(...parts),
      inject: [
        BLOB_STORE,
        REPOSITORY_STORE,
        StoreTrouble,
        LOG,
        Metrics,
        CLUSTER,
        ExpectedSizes,
        USAGE_RECORDER,
        LIFETIME,
      ],
    },
    {
      provide: Tags,
      useFactory: (...parts: ConstructorParameters<typeof Tags>) => new Tags(...parts),
      inject: [REPOSITORY_STORE, Manifests, FRESHNESS, StoreTrouble, LOG, Metrics, CLUSTER, LIFETIME],
    },
    {
      provide: Listings,
      useFactory: (...parts: ConstructorParameters<typeof Listings>) => new Listings(...parts),
      inject: [REPOSITORY_STORE, RECORD_STORE, Manifests, Tags, FRESHNESS, StoreTrouble, LOG, Metrics],
    },
  ],
  exports: [
    REPEAT_LIFETIME,
    Blobs,
    Listings,
    Manifests,
    Siblings,
    Tags,
    Transfers,
    StorageModule,
    ClusterModule,
  ],
})
export class ProxyModule implements OnModuleDestroy {
  constructor(
    @Inject(Transfers) private readonly transfers: Transfers,
    @Inject(Siblings) private readonly siblings: Siblings,
    @Inject(NEAR_BLOBS) private readonly blobs: BlobStore,
  ) {}

  async onModuleDestroy(): Promise<void> {
    this.siblings.stop();
    await this.transfers.close();
    if (this.blobs instanceof LocalCopies) await this.blobs.settled();
  }
}

/** Part of a spool's name, for whoever looks into their folder. */
function fileNameOf(digest: Digest): string {
  return hexOf(digest).slice(0, 16);
}
