import { Module } from '@nestjs/common';
import type { Cluster } from '../cluster/cluster.js';
import { CLUSTER } from '../cluster/cluster.module.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { ProxyModule } from '../proxy/proxy.module.js';
import { Transfers } from '../proxy/transfers.js';
import { BLOB_STORE, DELETES } from '../storage/storage.module.js';
import { presigns, type BlobStore, type Deletes } from '../storage/storage.js';
import { BlobRemoval } from './blob-removal.js';

/** From hiding content to deleting it, in milliseconds. After it, no cache and no presigned address leads to the content. */
export const DELETION_WAIT = Symbol('DeletionWait');

@Module({
  imports: [ProxyModule],
  providers: [
    {
      provide: BlobRemoval,
      useFactory: (deletes: Deletes, cluster: Cluster, transfers: Transfers) =>
        new BlobRemoval({
          deletes,
          coordinator: () => cluster.coordinator,
          transferring: (digest) => transfers.get(digest) !== undefined,
        }),
      inject: [DELETES, CLUSTER, Transfers],
    },
    {
      provide: DELETION_WAIT,
      // A replica may hand out a presigned address until its caches end, which is within the grace.
      useFactory: ({ scheduler, storage }: Config, blobs: BlobStore) =>
        scheduler.grace + (presigns(blobs) && !storage.redirect.disable ? blobs.lifetimeMs : 0),
      inject: [CONFIG, BLOB_STORE],
    },
  ],
  exports: [BlobRemoval, DELETION_WAIT],
})
export class BlobRemovalModule {}
