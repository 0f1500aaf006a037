import { Module } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import { Blobs } from '../proxy/blobs.js';
import { Listings } from '../proxy/listings.js';
import { Manifests } from '../proxy/manifests.js';
import { ProxyModule } from '../proxy/proxy.module.js';
import { Tags } from '../proxy/tags.js';
import { REPOSITORY_STORE } from '../storage/storage.module.js';
import type { RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { CallerCheck } from '../upstream/caller.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { UPSTREAMS, UpstreamModule, type Upstreams } from '../upstream/upstream.module.js';
import { USAGE_RECORDER, UsageModule } from '../usage/usage.module.js';
import type { UsageRecorder } from '../usage/usage.js';
import { Access } from './access.js';
import { BlobReply } from './blob-reply.js';
import { CallerGate } from './caller-gate.js';
import { Htpasswd } from './htpasswd.js';
import { ListingReply } from './listing-reply.js';
import { ManifestReply } from './manifest-reply.js';
import { RegistryHandler } from './registry-handler.js';

@Module({
  imports: [ProxyModule, UpstreamModule, UsageModule],
  providers: [
    {
      provide: RegistryHandler,
      useFactory: (
        { auth, http, log: { accesslog } }: Config,
        directory: UpstreamDirectory,
        upstreams: Upstreams,
        manifests: Manifests,
        tags: Tags,
        blobs: Blobs,
        listings: Listings,
        repositories: RepositoryStore,
        usage: UsageRecorder,
        log: Logger,
        metrics: Metrics,
      ) =>
        new RegistryHandler({
          directory,
          manifests: new ManifestReply(manifests, tags, usage),
          blobs: new BlobReply(blobs, usage),
          listings: new ListingReply(listings, repositories),
          access: new Access(metrics, log, !accesslog.disabled),
          htpasswd: auth && new Htpasswd(auth.htpasswd.path, auth.htpasswd.realm),
          callers: new CallerGate(callerChecks(upstreams)),
          prefix: http.prefix.replace(/\/$/, ''),
        }),
      inject: [
        CONFIG,
        UpstreamDirectory,
        UPSTREAMS,
        Manifests,
        Tags,
        Blobs,
        Listings,
        REPOSITORY_STORE,
        USAGE_RECORDER,
        LOG,
        Metrics,
      ],
    },
  ],
  exports: [RegistryHandler],
})
export class RegistryModule {}

function callerChecks(upstreams: Upstreams): ReadonlyMap<string, CallerCheck> {
  return new Map(
    [...upstreams].flatMap(([host, { callers }]) =>
      callers === undefined ? [] : [[host, callers] as const],
    ),
  );
}
