import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/config.js';
import type { KubernetesApi } from '../kubernetes/kubernetes.js';
import { KUBERNETES, KubernetesModule } from '../kubernetes/kubernetes.module.js';
import { LOG, TRACING } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import type { TraceAttributes, Tracing } from '../telemetry/tracing.js';
import { createUpstream, type RegistryUpstream } from './client.js';
import { credentialsOf } from './configured-credentials.js';
import { DockerConfig } from './docker-config.js';
import { libraryRule, UpstreamDirectory, type DirectoryEntry } from './directory.js';
import type { RequestFinished, UpstreamObserver } from './observer.js';
import { PartSlots } from './parallel-ranges.js';
import { PullSecrets } from './pull-secrets.js';
import { proxySettings, type ProxySettings } from './proxy.js';

/** The proxy variables of the environment, read once at the start. */
export const PROXY_SETTINGS = Symbol('ProxySettings');
/** Every upstream that may be dialled, by its key. */
export const UPSTREAMS = Symbol('Upstreams');
export type Upstreams = ReadonlyMap<string, RegistryUpstream>;

/** {@link PullSecrets}; `undefined` where none are configured. */
export const PULL_SECRETS = Symbol('PullSecrets');

@Module({
  imports: [KubernetesModule],
  providers: [
    { provide: PROXY_SETTINGS, useFactory: () => proxySettings(process.env) },
    {
      provide: PULL_SECRETS,
      useFactory: ({ proxy }: Config, api: KubernetesApi, log: Logger, metrics: Metrics) =>
        proxy.pullsecrets.length === 0
          ? undefined
          : new PullSecrets({ api, names: proxy.pullsecrets, log, metrics }),
      inject: [CONFIG, KUBERNETES, LOG, Metrics],
    },
    {
      provide: UPSTREAMS,
      useFactory: (
        { proxy }: Config,
        settings: ProxySettings,
        secrets: PullSecrets | undefined,
        log: Logger,
        metrics: Metrics,
        tracing: Tracing | undefined,
      ): Upstreams => {
        const configs = [proxy.default, ...proxy.upstreams].filter((config) => config !== undefined);
        const observer = observe(metrics, tracing);
        metrics.answers.expect(proxy.host); // also where nobody can be asked
        for (const { host } of configs) metrics.expectUpstream(host);
        const file = proxy.dockerconfigjson;
        const sources = { shared: file === undefined ? secrets : new DockerConfig(file, log), log };
        const slots = new PartSlots();
        return new Map(
          configs.map((config) => [
            config.host,
            createUpstream({
              ...config,
              ranges: { ...config.ranges, slots },
              credentials: credentialsOf(config, sources),
              proxy: settings,
              log,
              observer,
            }),
          ]),
        );
      },
      inject: [CONFIG, PROXY_SETTINGS, PULL_SECRETS, LOG, Metrics, TRACING],
    },
    {
      provide: UpstreamDirectory,
      useFactory: (config: Config, upstreams: Upstreams) =>
        new UpstreamDirectory(entriesOf(config, upstreams)),
      inject: [CONFIG, UPSTREAMS],
    },
  ],
  exports: [UpstreamDirectory, UPSTREAMS, PULL_SECRETS],
})
export class UpstreamModule implements OnModuleDestroy {
  constructor(
    @Inject(UPSTREAMS) private readonly upstreams: Upstreams,
    @Inject(PULL_SECRETS) private readonly secrets: PullSecrets | undefined,
  ) {}

  async onModuleDestroy(): Promise<void> {
    this.secrets?.close();
    await Promise.all([...this.upstreams.values()].map((upstream) => upstream.close()));
  }
}

/**
 * The tree without a prefix belongs to `proxy.host`: to `remoteurl`, else to the upstream in the list that has this
 * host, else to nobody who could be asked.
 */
function entriesOf({ proxy }: Config, upstreams: Upstreams): DirectoryEntry[] {
  const { host, hostexplicit } = proxy;
  const main = proxy.default ?? proxy.upstreams.find((config) => config.host === host);
  const others = proxy.upstreams.filter((config) => config !== main);
  return [
    {
      upstream: main && upstreams.get(main.host),
      host,
      aliases: main?.aliases ?? [],
      hosts: main?.hosts ?? [],
      isDefault: true,
      library: libraryRule({ host, url: main?.url, isDefault: true, hostexplicit }),
    },
    ...others.map((config) => ({
      upstream: upstreams.get(config.host),
      host: config.host,
      aliases: config.aliases,
      hosts: config.hosts,
      isDefault: false,
      library: libraryRule({ host: config.host, url: config.url, isDefault: false, hostexplicit: true }),
    })),
  ];
}

function observe(metrics: Metrics, tracing: Tracing | undefined): UpstreamObserver {
  return {
    requestFinished: ({ host, kind, method, outcome, seconds }) => {
      metrics.upstreamRequests.inc({ upstream: host, kind, method, result: outcome });
      metrics.upstreamDuration.observe({ upstream: host, kind }, seconds);
      tracing?.record(`upstream ${method} ${kind}`, performance.now() - seconds * 1000, {
        kind: 'client',
        attributes: { 'cistern.upstream': host, 'http.request.method': method, ...resultOf(outcome) },
      });
    },
    rateLimited: (host) => metrics.upstreamRateLimited.inc({ upstream: host }),
    budgetChanged: (host, budget) => {
      metrics.upstreamRateSeen.set({ upstream: host }, Date.now() / 1000);
      metrics.upstreamRateLimit.set({ upstream: host }, budget?.limit ?? 0);
      metrics.upstreamRateRemaining.set({ upstream: host }, budget?.remaining ?? 0);
      metrics.upstreamFreshnessFactor.set({ upstream: host }, budget?.freshnessFactor ?? 1);
      metrics.upstreamExhausted.set({ upstream: host }, budget?.remaining === 0 ? 1 : 0);
    },
    credentialsRefused: (host) => metrics.upstreamCredentialsRefused.inc({ upstream: host }),
    tokenFetched: (host, outcome) => metrics.upstreamTokens.inc({ upstream: host, result: outcome }),
    breakerChanged: (host, state) =>
      metrics.upstreamBreakerOpen.set({ upstream: host }, state === 'closed' ? 0 : 1),
    partsFetched: (host, event) => metrics.upstreamRanges.inc({ upstream: host, event }),
  };
}

function resultOf(outcome: RequestFinished['outcome']): TraceAttributes {
  return typeof outcome === 'number' ? { 'http.response.status_code': outcome } : { 'error.type': outcome };
}
