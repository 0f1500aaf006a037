import { setTimeout as sleep } from 'node:timers/promises';
import type { Coordinator, Lease, PeerRecord } from '../cluster/cluster.js';
import { processLease } from '../cluster/local/coordinator.js';
import type { Neighbours } from '../cluster/peers/neighbours.js';
import type { PeerError } from '../cluster/peers/peer-client.js';
import type { Seal } from '../cluster/peers/seal.js';
import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { VerifiedFile } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Tracing } from '../telemetry/tracing.js';
import { UpstreamError, type UpstreamCode } from '../upstream/upstream.js';
import { isWhole, type Filler, type Filling, type Unusable } from './filler.js';
import { fillFromUpstream, type LeadOptions } from './lead.js';
import type { Shelf } from './local-filler.js';
import { OtherSpools } from './other-spools.js';
import { StoreSource } from './store-source.js';

/** Without word of where the leader is within this, this process fetches alone. */
const leaderMs = 1_000;
/** A leader that went silent is replaced within this of the last byte, or the rest is fetched alone. */
const recoverMs = 8_000;
/** The same before the first byte, from the beginning on: longer than a lease, shorter than clients wait. */
const openingMs = 6_000;
/** The same for a leader that could not be reached before either. */
const doubtfulMs = 500;
const pollMs = 100;
/** The pauses before a leader says where it is grow from this to `pollMs`: it does so right after it has the lease. */
const soonMs = 10;
/** After this many rounds without a new byte from another leader, this process fetches alone. */
const mostIdleRounds = 50;
const announceMs = 2_000;
/** How long a follower waits for the leader to store what it has, before it does so itself. */
const settleMs = 60_000;
/** It looks after pauses that grow from this to `longestPollMs`: storing takes a moment, and no client waits. */
const firstPollMs = 200;
const longestPollMs = 1_000;

export interface ClusterFillerOptions {
  readonly coordinator: Coordinator;
  readonly seals: () => readonly Seal[];
  readonly neighbours: Neighbours;
  readonly self: PeerRecord;
  readonly shelf: Shelf;
  readonly lead: LeadOptions;
  readonly unusable: Unusable | undefined;
  readonly log: Logger;
  /** Told how the bytes came: for the metrics. */
  readonly role: (role: 'lead' | 'follow' | 'alone' | 'takeover') => void;
  readonly tracing: Tracing | undefined;
}

/** Another replica has read further than this one, which has begun to lead. */
class Overtaken extends Error {
  override readonly name = 'Overtaken';
}

/** Another replica leads now, or has led to the end. */
class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/**
 * Fills one transfer for the whole cluster: whoever has the digest's lease reads the upstream, everybody else reads
 * a replica's live spool. The lease only saves work; whatever becomes of it, each replica hashes what it got.
 *
 * 1. With the lease: look into the store once more, take what other live spools have, read the rest upstream.
 * 2. Without it: follow the leader from the byte reached. No word of it in time: read the upstream alone.
 * 3. The leader is silent: other spools, then the store; once its lease lapses, lead (1.); at last alone.
 */
export class ClusterFiller implements Filler {
  readonly #key: string;
  readonly #others: OtherSpools;
  readonly #fromStore: StoreSource;
  #lease: Lease | undefined;
  #announcing: NodeJS.Timeout | undefined;
  #isAnnounced = false;
  #began = 0;
  #isOvertaken = false;

  constructor(
    private readonly digest: Digest,
    private readonly options: ClusterFillerOptions,
  ) {
    this.#key = `blob:${digest}`;
    this.#others = new OtherSpools(this.#key, options);
    this.#fromStore = new StoreSource(digest, options.shelf.blobs, options.unusable, options.log);
  }

  async fill(filling: Filling): Promise<void> {
    this.#began = performance.now();
    this.#announce(filling);
    let reached = filling.length;
    let pause = soonMs;
    for (let idle = 0; idle < mostIdleRounds; idle += 1) {
      filling.signal.throwIfAborted();
      const lease = await this.options.coordinator.tryLead(this.#key);
      const complete = lease === undefined ? await this.#follow(filling) : await this.#lead(filling, lease);
      if (complete) return;
      if (filling.length > reached) idle = 0;
      reached = filling.length;
      await sleep(pause, undefined, { signal: filling.signal });
      pause = Math.min(pause * 2, pollMs);
    }
    await this.#alone(filling, 'other leaders send no bytes');
  }

  async store(file: VerifiedFile, repositories: readonly Repository[], signal: AbortSignal): Promise<void> {
    const { coordinator, shelf } = this.options;
    const until = performance.now() + settleMs;
    let pause = this.#fromStore.gaveAll ? 0 : firstPollMs;
    while (this.#lease === undefined) {
      await sleep(pause, undefined, { signal });
      pause = Math.min(pause * 2 || firstPollMs, longestPollMs);
      if (await this.#fromStore.has(file.size)) {
        await shelf.adopt(file, repositories);
        return;
      }
      const state = await coordinator.state(this.#key);
      // The leader stores it; should it die before it does, its lease lapses and this spool is as good.
      if (state !== 'led' || performance.now() > until) {
        this.#lease =
          (await coordinator.tryLead(this.#key)) ?? (performance.now() > until ? processLease : undefined);
      }
    }
    if (this.#fromStore.gaveAll && (await this.#fromStore.has(file.size)))
      await shelf.adopt(file, repositories);
    else await shelf.take(file, repositories);
  }

  async close(stored: boolean): Promise<void> {
    clearInterval(this.#announcing);
    if (this.#isAnnounced) this.options.coordinator.withdrawSpool(this.#key, this.options.self);
    await this.#lease?.release(stored);
    await this.options.shelf.clear();
  }

  /** `false`: another replica leads now. */
  async #lead(filling: Filling, lease: Lease): Promise<boolean> {
    const { lead, log, role } = this.options;
    this.#lease = lease;
    const [isStored] = await Promise.all([this.#fromStore.fill(filling), lease.publish(this.options.self)]);
    if (isStored) return true;
    await this.#others.topUp(filling, undefined);
    role(leadingRole(lease, filling));
    const mayGoOn = (): Promise<void> | undefined => {
      if (this.#isOvertaken) throw new Overtaken();
      return lease.doubtful ? this.#confirm(lease) : undefined;
    };
    for (;;) {
      try {
        await fillFromUpstream(filling, { ...lead, mayGoOn });
        return true;
      } catch (error) {
        if (error instanceof Overtaken) {
          this.#isOvertaken = false;
          await this.#others.topUp(filling, undefined);
          continue;
        }
        if (!(error instanceof LeaseLost)) throw error;
        log.info({ digest: this.digest, offset: filling.length }, 'gave the transfer up to another replica');
        this.#lease = undefined;
        await lease.release(false);
        return false;
      }
    }
  }

  async #confirm(lease: Lease): Promise<void> {
    if (!(await lease.confirm())) throw new LeaseLost();
  }

  /** `true`: all bytes are here. `false`: the lease is worth another try. */
  async #follow(filling: Filling): Promise<boolean> {
    const leader = await this.#findLeader(filling);
    if (leader === 'stored') return true;
    if (leader === 'none') return false;
    if (leader === undefined) return this.#alone(filling, 'nobody said where the leader is');
    this.options.role('follow');
    const wasFailing = this.options.neighbours.isFailing(leader.url);
    const trouble = await this.#others.readFrom(leader, filling);
    if (trouble === undefined || isWhole(filling)) return true;
    if (trouble.code === 'failed') return this.#shareFailure(filling, trouble);
    if (trouble.code === 'refused') return this.#alone(filling, 'the leading replica cannot be read');
    if (trouble.code === 'unproven') return this.#alone(filling, 'the upstream does not confirm the size');
    const openingUntil = wasFailing ? performance.now() + doubtfulMs : this.#began + openingMs;
    return this.#recover(filling, leader, openingUntil);
  }

  /** `none`: nobody leads any more, and nothing is stored. */
  async #findLeader(filling: Filling): Promise<PeerRecord | 'stored' | 'none' | undefined> {
    const { coordinator, self } = this.options;
    const until = performance.now() + leaderMs;
    let pause = soonMs;
    do {
      const leader = await coordinator.leader(this.#key);
      if (leader !== undefined && leader.attempt !== self.attempt) return leader;
      const state = await coordinator.state(this.#key);
      if (state !== 'led' && (await this.#fromStore.fill(filling))) return 'stored';
      if (state === 'free') return 'none';
      if (state === 'unknown') return undefined;
      await sleep(pause, undefined, { signal: filling.signal });
      pause = Math.min(pause * 2, pollMs);
    } while (performance.now() < until);
    return (await this.#fromStore.fill(filling)) ? 'stored' : undefined;
  }

  /** What the leader's upstream said of the same repository holds here too; of another one it says nothing. */
  #shareFailure(filling: Filling, { failure, peer }: PeerError): boolean {
    const source = filling.nextSource();
    if (failure?.code === undefined || source === undefined) {
      throw new UpstreamError(
        'broken-body',
        source?.upstream.host ?? peer,
        failure?.reason ?? 'the transfer failed',
      );
    }
    if (failure.repository !== source.stored) return false;
    // The reason begins with the upstream's name, as ours will.
    const reason = failure.reason.replace(/^upstream \S+: /, '');
    const error = new UpstreamError(failure.code as UpstreamCode, source.upstream.host, reason);
    filling.refuse(source, error);
    if (filling.nextSource() === undefined) throw error;
    return false;
  }

  /** The leader cannot be read: what else there is, until its lease lapses or somebody has stored the blob. */
  async #recover(filling: Filling, leader: PeerRecord, openingUntil: number): Promise<boolean> {
    const { coordinator } = this.options;
    let reached = filling.length;
    let until = reached === 0 ? openingUntil : performance.now() + recoverMs;
    while (performance.now() < until) {
      await this.#others.topUp(filling, leader);
      if (isWhole(filling)) return true;
      if (filling.length > reached) until = performance.now() + recoverMs;
      reached = filling.length;
      const state = await coordinator.state(this.#key);
      if (state !== 'led' && (await this.#fromStore.fill(filling))) return true;
      if (state === 'free' || state === 'done') return false;
      if (state === 'unknown') break;
      const now = await coordinator.leader(this.#key);
      if (now !== undefined && now.attempt !== leader.attempt && now.attempt !== this.options.self.attempt)
        return false;
      await sleep(pollMs, undefined, { signal: filling.signal });
    }
    return this.#alone(filling, 'the leading replica cannot be reached');
  }

  async #alone(filling: Filling, reason: string): Promise<boolean> {
    this.options.log.info(
      { digest: this.digest, offset: filling.length, reason },
      'fetching without the others',
    );
    this.options.role('alone');
    await fillFromUpstream(filling, this.options.lead);
    return true;
  }

  #announce(filling: Filling): void {
    const { coordinator, self } = this.options;
    const tell = (): void => {
      if (filling.length > 0) {
        this.#isAnnounced = true;
        coordinator.announceSpool(this.#key, { ...self, length: filling.length });
      }
      if (this.#lease !== undefined && !isWhole(filling)) void this.#lookAhead(filling);
    };
    this.#announcing = setInterval(tell, announceMs).unref();
  }

  /** Who led until Redis lost its keys is further, and gives way to this one: its bytes are not fetched again. */
  async #lookAhead(filling: Filling): Promise<void> {
    try {
      if (await this.#others.foundFurther(filling)) this.#isOvertaken = true;
    } catch (err) {
      this.options.log.warn({ digest: this.digest, err }, 'the search for other spools failed');
    }
  }
}

function leadingRole(lease: Lease, filling: Filling): 'lead' | 'takeover' | 'alone' {
  if (lease.scope === 'process') return 'alone';
  return filling.length > 0 ? 'takeover' : 'lead';
}
