import { Module } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { AuthConfig, Config } from '../config/config.js';
import { Blobs } from '../proxy/blobs.js';
import { Listings } from '../proxy/listings.js';
import { Manifests } from '../proxy/manifests.js';
import { ProxyModule, REPEAT_LIFETIME } from '../proxy/proxy.module.js';
import { Siblings } from '../proxy/siblings.js';
import { Tags } from '../proxy/tags.js';
import { REPOSITORY_STORE } from '../storage/storage.module.js';
import type { RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LOG, TRACING } from '../telemetry/telemetry.module.js';
import type { Tracing } from '../telemetry/tracing.js';
import type { CallerCheck } from '../upstream/caller.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { UPSTREAMS, UpstreamModule, type Upstreams } from '../upstream/upstream.module.js';
import { USAGE_RECORDER, UsageModule } from '../usage/usage.module.js';
import type { UsageRecorder } from '../usage/usage.js';
import { AccessControl } from './access-control.js';
import { Access } from './access.js';
import type { Authentication } from './authentication.js';
import { BlobReply } from './blob-reply.js';
import { BodySender } from './body-sender.js';
import { CallerGate } from './caller-gate.js';
import { ClientAddresses } from './client-address.js';
import { FastLane } from './fast-lane.js';
import { Grants, membershipsOf } from './grants.js';
import { HeldAnswers } from './held-answers.js';
import { Htpasswd } from './htpasswd.js';
import { whyNoLane } from './lane-conditions.js';
import { Limits } from './limits.js';
import { ListingReply } from './listing-reply.js';
import { ManifestReply } from './manifest-reply.js';
import { RegistryHandler } from './registry-handler.js';

/** `undefined` where nothing is asked of anybody. */
export const ACCESS_CONTROL = Symbol('AccessControl');

/** `undefined` where each answer has to be made anew. */
export const FAST_LANE = Symbol('FastLane');

@Module({
  imports: [ProxyModule, UpstreamModule, UsageModule],
  providers: [
    {
      provide: ClientAddresses,
      useFactory: ({ http }: Config) => new ClientAddresses(http.trustedproxies),
      inject: [CONFIG],
    },
    {
      provide: Limits,
      useFactory: ({ http }: Config, addresses: ClientAddresses) => new Limits(http.limits, addresses),
      inject: [CONFIG, ClientAddresses],
    },
    {
      provide: HeldAnswers,
      useFactory: (addresses: ClientAddresses) => new HeldAnswers(addresses),
      inject: [ClientAddresses],
    },
    {
      provide: ACCESS_CONTROL,
      useFactory: accessControl,
      inject: [CONFIG, UpstreamDirectory, ClientAddresses, LOG],
    },
    {
      provide: Access,
      useFactory: ({ log: { accesslog } }: Config, log: Logger, metrics: Metrics) =>
        new Access(metrics, log, !accesslog.disabled),
      inject: [CONFIG, LOG, Metrics],
    },
    {
      provide: BodySender,
      useFactory: ({ http }: Config) => new BodySender(http.limits.readtimeout),
      inject: [CONFIG],
    },
    {
      provide: FAST_LANE,
      useFactory: fastLane,
      inject: [
        CONFIG,
        UPSTREAMS,
        ACCESS_CONTROL,
        TRACING,
        Tags,
        Access,
        Limits,
        HeldAnswers,
        REPEAT_LIFETIME,
        LOG,
      ],
    },
    {
      provide: RegistryHandler,
      useFactory: (
        config: Config,
        directory: UpstreamDirectory,
        upstreams: Upstreams,
        manifests: Manifests,
        tags: Tags,
        blobs: Blobs,
        listings: Listings,
        siblings: Siblings,
        repositories: RepositoryStore,
        usage: UsageRecorder,
        limits: Limits,
        heldAnswers: HeldAnswers,
        control: AccessControl | undefined,
        access: Access,
        sender: BodySender,
        lane: FastLane | undefined,
        tracing: Tracing | undefined,
      ) =>
        new RegistryHandler({
          directory,
          manifests: new ManifestReply(manifests, tags, usage, siblings),
          blobs: new BlobReply(blobs, usage, sender),
          listings: new ListingReply(listings, repositories),
          access,
          limits,
          heldAnswers,
          control,
          callers: new CallerGate(callerChecks(upstreams)),
          tracing,
          lane,
          prefix: config.http.prefix.replace(/\/$/, ''),
        }),
      inject: [
        CONFIG,
        UpstreamDirectory,
        UPSTREAMS,
        Manifests,
        Tags,
        Blobs,
        Listings,
        Siblings,
        REPOSITORY_STORE,
        USAGE_RECORDER,
        Limits,
        HeldAnswers,
        ACCESS_CONTROL,
        Access,
        BodySender,
        FAST_LANE,
        TRACING,
      ],
    },
  ],
  exports: [RegistryHandler, BodySender, ClientAddresses, Limits, ACCESS_CONTROL, FAST_LANE],
})
export class RegistryModule {}

function callerChecks(upstreams: Upstreams): ReadonlyMap<string, CallerCheck> {
  return new Map(
    [...upstreams].flatMap(([host, { callers }]) =>
      callers === undefined ? [] : [[host, callers] as const],
    ),
  );
}

function fastLane(
  { http }: Config,
  upstreams: Upstreams,
  control: AccessControl | undefined,
  tracing: Tracing | undefined,
  tags: Tags,
  access: Access,
  limits: Limits,
  heldAnswers: HeldAnswers,
  lifetimeMs: number,
  log: Logger,
): FastLane | undefined {
  const reason = whyNoLane({
    http,
    asksWho: control !== undefined,
    verifiesCallers: callerChecks(upstreams).size > 0,
    traces: tracing !== undefined,
  });
  if (reason !== undefined) {
    log.debug({ reason }, 'each answer is made anew');
    return undefined;
  }
  const lane = new FastLane({
    lifetimeMs,
    idleMs: http.limits.idletimeout,
    stalledMs: http.limits.readtimeout,
    access,
    limits,
    heldAnswers,
  });
  tags.whenMoved(() => lane.forget());
  return lane;
}

/** `undefined` where nothing is asked of anybody: then it costs nothing either. */
async function accessControl(
  { auth, http, proxy }: Config,
  directory: UpstreamDirectory,
  addresses: ClientAddresses,
  log: Logger,
): Promise<AccessControl | undefined> {
  const upstreams = [proxy.default, ...proxy.upstreams].filter((each) => each !== undefined);
  const grants = new Map(
    upstreams.filter(({ access }) => access.length > 0).map(({ host, access }) => [host, new Grants(access)]),
  );
  if (auth === undefined && grants.size === 0) return undefined;
  return new AccessControl({
    authentication: auth && (await authentication(auth, log)),
    certificates: auth === undefined && (http.tls?.clientcas.length ?? 0) > 0,
    grants,
    memberships: membershipsOf(proxy.groups),
    addresses,
    directory,
  });
}

/** What verifies tokens is loaded where tokens are asked for. */
async function authentication(
  { htpasswd, token }: AuthConfig,
  log: Logger,
): Promise<Authentication | undefined> {
  if (htpasswd !== undefined) return new Htpasswd(htpasswd.path, htpasswd.realm, log);
  if (token === undefined) return undefined;
  const { TokenAuthentication } = await import('./token-authentication.js');
  const { TokenKeyFiles } = await import('./token-keys.js');
  return new TokenAuthentication(token, new TokenKeyFiles(token, log));
}
