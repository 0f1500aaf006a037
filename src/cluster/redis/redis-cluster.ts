import type { ClusterConfig, Config, RedisConfig } from '../../config/config.js';
import { WatchedFile, type FileLog } from '../../config/watched-file.js';
import type { Logger } from '../../telemetry/log.js';
import type { Metrics } from '../../telemetry/metrics.js';
import { LocalBudgetLedger, type BudgetLedger } from '../../upstream/rate-budget.js';
import type {
  Coordinator,
  NearDescriptorCache,
  JoiningCluster,
  Peers,
  StorageIdentity,
  TagCache,
} from '../cluster.js';
import {
  LocalDescriptorCache,
  memoryLifetime,
  NoTagCache,
  sharedLifetime,
  TieredDescriptorCache,
} from '../local/caches.js';
import { LocalCoordinator } from '../local/coordinator.js';
import { advertised } from '../peers/advertised.js';
import { Seals } from '../peers/seals.js';
import { RedisBudgetLedger } from './budget.js';
import { commandBudget, connectRedis, localAddressOf } from './connection.js';
import { RedisCoordinator } from './coordinator.js';
import { RedisDescriptorCache } from './descriptor-cache.js';
import { Keys } from './keys.js';
import { Outage, RedisLink } from './link.js';
import { RedisMemory } from './memory.js';
import { SealedValues, type SealedKind } from './sealed-values.js';
import { RedisTagCache } from './tag-cache.js';

/** This process alone, until it knows whose storage it stands on; from then on with the others. */
export class RedisCluster implements JoiningCluster {
  coordinator: Coordinator = new LocalCoordinator();
  descriptors: NearDescriptorCache;
  tags: TagCache = new NoTagCache();
  budgets: BudgetLedger = new LocalBudgetLedger();
  peers: Peers | undefined;
  #memory: RedisMemory | undefined;
  readonly #links: RedisLink[] = [];
  readonly #outage: Outage;
  #saidWrongType = false;

  constructor(
    private readonly config: Config & { readonly redis: RedisConfig },
    private readonly log: Logger,
    private readonly metrics: Metrics,
  ) {
    this.#outage = new Outage(log);
    this.descriptors = new LocalDescriptorCache(memoryLifetime(config.scheduler.grace));
  }

  join(identity: StorageIdentity): void {
    const { redis, cluster, scheduler, storage } = this.config;
    if (this.peers !== undefined) return;
    const keys = new Keys(identity.id);
    // Two connections: a lock that waits for a slow answer must not stand behind the caches, nor they behind it.
    const data = this.#link(redis, 'data', commandBudget(redis));
    const locks = this.#link(redis, 'locks', cluster.locktimeout);
    const seals = new Seals(secretOf(cluster, this.log) ?? (() => identity.secret), this.log);
    const values = this.#sealedBy(seals);
    this.coordinator = new RedisCoordinator(locks, keys, values, this.log);
    this.tags = new RedisTagCache(data, keys, values);
    this.#memory = new RedisMemory(data, keys);
    if (storage.cache.blobdescriptor === 'redis') {
      const { grace } = scheduler;
      const shared = new RedisDescriptorCache(data, keys, values, sharedLifetime(grace));
      this.descriptors = new TieredDescriptorCache(shared, memoryLifetime(grace));
    }
    // By what the storage keeps, so that replicas count together while the cluster's secret changes.
    this.budgets = new RedisBudgetLedger(data, keys, identity.secret, this.budgets);
    this.peers = { seals: () => seals.all(), url: () => advertised(cluster, localAddressOf(locks.client)) };
  }

  async memoryMs(): Promise<number | undefined> {
    return this.#memory?.ageMs();
  }

  close(): void {
    for (const link of this.#links) link.close();
  }

  #sealedBy(seals: Seals): SealedValues {
    const logged = new Set<SealedKind>();
    const refused = (kind: SealedKind, key: string): void => {
      this.metrics.redisRefusedValues.inc({ kind });
      if (logged.has(kind)) return;
      logged.add(kind);
      const reason = 'an earlier version, a replica with another secret, or another client wrote it';
      this.log.warn(
        { key, reason },
        `ignored a ${kind} value in redis without proof of the secret (logged once)`,
      );
    };
    return new SealedValues(() => seals.all(), refused);
  }

  #warnOfType(key: string | undefined): void {
    if (this.#saidWrongType) return;
    this.#saidWrongType = true;
    const reason = 'another client wrote it';
    this.log.warn({ key, reason }, 'ignored a value of a wrong type in redis (said once)');
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
        wrongType: (key) => this.#warnOfType(key),
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
