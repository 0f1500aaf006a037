import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config, UpstreamConfig } from '../config/config.js';
import type { KubernetesApi } from '../kubernetes/kubernetes.js';
import { KUBERNETES, KubernetesModule } from '../kubernetes/kubernetes.module.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { createUpstream, type RegistryUpstream } from './client.js';
import { CredentialHelper } from './credential-helper.js';
import { filePassword, fixedPassword, userWith, type Credentials } from './credentials.js';
import { DockerConfig } from './docker-config.js';
import { dockerHubHosts, libraryRule, UpstreamDirectory, type DirectoryEntry } from './directory.js';
import type { UpstreamObserver } from './observer.js';
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
      ): Upstreams => {
        const configs = [proxy.default, ...proxy.upstreams].filter((config) => config !== undefined);
        const observer = observe(metrics);
        metrics.answers.expect(proxy.host); // also where nobody can be asked
        for (const { host } of configs) metrics.expectUpstream(host);
        const file = proxy.dockerconfigjson;
        const sources = { shared: file === undefined ? secrets : new DockerConfig(file), log };
        return new Map(
          configs.map((config) => [
            config.host,
            createUpstream({
              ...config,
              credentials: credentialsOf(config, sources),
              proxy: settings,
              log,
              observer,
            }),
          ]),
        );
      },
      inject: [CONFIG, PROXY_SETTINGS, PULL_SECRETS, LOG, Metrics],
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

interface CredentialSources {
  /** For upstreams without any of their own. */
  readonly shared: Pick<DockerConfig, 'credentialsFor'> | undefined;
  readonly log: Logger;
}

function credentialsOf(config: UpstreamConfig, { shared, log }: CredentialSources): Credentials[] {
  const { host, url, exec } = config;
  const { host: address } = new URL(url);
  const helper =
    exec &&
    new CredentialHelper({
      command: exec.command,
      lifetimeMs: exec.lifetime,
      // What `docker login` files Docker Hub under.
      server: dockerHubHosts.includes(address) ? 'https://index.docker.io/v1/' : address,
      env: helperEnvironment(process.env),
      host,
      log,
      now: () => performance.now(),
    });
  const users = config.credentials.flatMap(({ username, password, passwordfile }) => {
    if (password !== undefined) return userWith(username, fixedPassword(password.reveal()));
    return passwordfile === undefined ? [] : userWith(username, filePassword(passwordfile));
  });
  const own = helper === undefined ? users : [helper, ...users];
  return own.length > 0 || shared === undefined ? own : [shared.credentialsFor(address)];
}

/** A helper has its own settings in the environment; ours, with other upstreams' passwords, are not for it. */
function helperEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('REGISTRY_')));
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

function observe(metrics: Metrics): UpstreamObserver {
  return {
    requestFinished: ({ host, kind, method, outcome, seconds }) => {
      metrics.upstreamRequests.inc({ upstream: host, kind, method, result: outcome });
      metrics.upstreamDuration.observe({ upstream: host, kind }, seconds);
    },
    rateLimited: (host) => metrics.upstreamRateLimited.inc({ upstream: host }),
    budgetChanged: (host, budget) => {
      metrics.upstreamRateLimit.set({ upstream: host }, budget?.limit ?? 0);
      metrics.upstreamRateRemaining.set({ upstream: host }, budget?.remaining ?? 0);
      metrics.upstreamFreshnessFactor.set({ upstream: host }, budget?.freshnessFactor ?? 1);
      metrics.upstreamExhausted.set({ upstream: host }, budget?.remaining === 0 ? 1 : 0);
    },
    credentialsRefused: (host) => metrics.upstreamCredentialsRefused.inc({ upstream: host }),
    tokenFetched: (host, outcome) => metrics.upstreamTokens.inc({ upstream: host, result: outcome }),
    breakerChanged: (host, state) =>
      metrics.upstreamBreakerOpen.set({ upstream: host }, state === 'closed' ? 0 : 1),
  };
}
