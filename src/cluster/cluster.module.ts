import { Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { ClusterConfig, Config, RedisConfig } from '../config/config.js';
import { WatchedFile, type FileLog } from '../config/watched-file.js';
import { LOG } from '../telemetry/telemetry.module.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LocalBudgetLedger, type BudgetLedger } from '../upstream/rate-budget.js';
import type { Cluster, Coordinator, NearDescriptorCache, Peers, TagCache } from './cluster.js';
import { LocalDescriptorCache, memoryLifetime, NoTagCache, TieredDescriptorCache } from './local/caches.js';
import { LocalCoordinator } from './local/coordinator.js';
import { advertised } from './peers/advertised.js';
import { Seals } from './peers/seals.js';
import { RedisBudgetLedger } from './redis/budget.js';
import { commandBudget, connectRedis, localAddressOf } from './redis/connection.js';
import { RedisCoordinator } from './redis/coordinator.js';
import { RedisDescriptorCache } from './redis/descriptor-cache.js';
import { Keys } from './redis/keys.js';
import { Outage, RedisLink } from './redis/link.js';
import { RedisMemory } from './redis/memory.js';
import { RedisTagCache } from './redis/tag-cache.js';

export const CLUSTER = Symbol('Cluster');

@Module({
  providers: [
    {
      provide: CLUSTER,
      useFactory: (...parts: ConstructorParameters<typeof RedisCluster>) => new RedisCluster(...parts),
      inject: [CONFIG, LOG, Metrics],
    },
  ],
  exports: [CLUSTER],
})
export class ClusterModule implements OnModuleDestroy {
  constructor(@Inject(CLUSTER) private readonly cluster: RedisCluster) {}

  onModuleDestroy(): void {
    this.cluster.close();
  }
}

/** What tells one mirror's storage from another's, and what only those who can read it know. */
interface StorageIdentity {
  readonly id: string;
  readonly secret: string;
}

/** This process alone, until it knows whose storage it stands on; from then on with the others, if Redis is configured. */
export class RedisCluster implements Cluster {
  coordinator: Coordinator = new LocalCoordinator();
  descriptors: NearDescriptorCache;
  tags: TagCache = new NoTagCache();
  budgets: BudgetLedger = new LocalBudgetLedger();
  peers: Peers | undefined;
  #memory: RedisMemory | undefined;
  readonly #links: RedisLink[] = [];
  readonly #outage: Outage;

  constructor(
    private readonly config: Config,
    private readonly log: Logger,
    private readonly metrics: Metrics,
  ) {
    this.#outage = new Outage(log);
    this.descriptors = new LocalDescriptorCache(memoryLifetime(config.scheduler.grace));
  }

  /** The identity comes from the storage, which may be away when the process starts. */
  join(identity: StorageIdentity): void {
    const { redis, cluster, scheduler, storage } = this.config;
    if (redis === undefined || this.peers !== undefined) return;
    const keys = new Keys(identity.id);
    // Two connections: a lock that waits for a slow answer must not stand behind the caches, nor they behind it.
    const data = this.#link(redis, 'data', commandBudget(redis));
    const locks = this.#link(redis, 'locks', cluster.locktimeout);
    this.coordinator = new RedisCoordinator(locks, keys, this.log);
    this.tags = new RedisTagCache(data, keys);
    this.#memory = new RedisMemory(data, keys);
    if (storage.cache.blobdescriptor === 'redis') {
      const lifetimeMs = memoryLifetime(scheduler.grace);
      this.descriptors = new TieredDescriptorCache(new RedisDescriptorCache(data, keys), lifetimeMs);
    }
    // By what the storage keeps, so that replicas count together while the cluster's secret changes.
    this.budgets = new RedisBudgetLedger(data, keys, identity.secret, this.budgets);
    const seals = new Seals(secretOf(cluster, this.log) ?? (() => identity.secret), this.log);
    this.peers = { seals: () => seals.all(), url: () => advertised(cluster, localAddressOf(locks.client)) };
  }

  async memoryMs(): Promise<number | undefined> {
    return this.config.redis === undefined ? Number.POSITIVE_INFINITY : this.#memory?.ageMs();
  }

  close(): void {
    for (const link of this.#links) link.close();
  }

  #link(redis: RedisConfig, connection: string, budgetMs: number): RedisLink {
    const { redisFailures, redisUsable } = this.metrics;
    const link = new RedisLink(
      connectRedis(redis, connection, this.log),
      budgetMs,
      connection,
      this.log,
      {
        failed: () => redisFailures.inc({ connection }),
        state: (usable) => redisUsable.set({ connection }, usable),
      },
      this.#outage,
    );
    this.#links.push(link);
    return link;
  }
}

/** A file for the cluster's secret has nothing in it. */
class EmptySecret extends Error {
  override readonly name = 'EmptySecret';
  readonly code = 'empty-secret';
}

function secretOf({ secret, secretfile }: ClusterConfig, log: FileLog): (() => string) | undefined {
  if (secret !== undefined) return () => secret.reveal();
  if (secretfile === undefined) return undefined;
  const file = new WatchedFile(secretfile, parseSecret, log);
  return () => file.readSync();
}

/** Everybody could prove an empty one. */
function parseSecret(text: string): string {
  const secret = text.trim();
  if (secret === '') throw new EmptySecret('the secret of the cluster is empty');
  return secret;
}
