import { setTimeout as sleep } from 'node:timers/promises';
import type { Coordinator, Lease, PeerRecord } from '../cluster/cluster.js';
import { processLease } from '../cluster/local/coordinator.js';
import type { Neighbours } from '../cluster/peers/neighbours.js';
import { PeerError, readPeer, type PeerEvent } from '../cluster/peers/peer-client.js';
import type { PeerProgress } from '../cluster/peers/frames.js';
import type { Seal } from '../cluster/peers/seal.js';
import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import { StorageError, type VerifiedFile } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { UpstreamError, type UpstreamCode } from '../upstream/upstream.js';
import { fillFromUpstream, type LeadOptions } from './lead.js';
import type { Shelf } from './local-filler.js';
import type { Filler, Filling, Source } from './transfer.js';

/** Without word of where the leader is within this, this process fetches alone. */
const leaderMs = 1_000;
/** A leader that went silent is replaced within this of the last byte, or the rest is fetched alone. */
const recoverMs = 8_000;
/** The same before the first byte, from the beginning on: longer than a lease, shorter than clients wait. */
const openingMs = 6_000;
/** The same for a leader that could not be reached before either. */
const doubtfulMs = 500;
const pollMs = 100;
const announceMs = 2_000;
/** Another spool that is so much longer is worth leaving the upstream for. */
const worthwhile = 1024 * 1024;
/** How long a follower waits for the leader to store what it has, before it does so itself. */
const settleMs = 60_000;

export interface ClusterFillerOptions {
  readonly coordinator: Coordinator;
  readonly seal: Seal;
  readonly neighbours: Neighbours;
  readonly self: PeerRecord;
  readonly shelf: Shelf;
  readonly lead: LeadOptions;
  /** Bytes of what the store has under the digest and is not the content. */
  readonly damaged: number | undefined;
  readonly log: Logger;
  /** Told how the bytes came: for the metrics. */
  readonly role: (role: 'lead' | 'follow' | 'alone' | 'takeover') => void;
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
  #lease: Lease | undefined;
  #announcing: NodeJS.Timeout | undefined;
  #began = 0;
  #isOvertaken = false;
  /** Attempts that were found to be further, once each. */
  readonly #further = new Set<string>();

  constructor(
    private readonly digest: Digest,
    private readonly options: ClusterFillerOptions,
  ) {
    this.#key = `blob:${digest}`;
  }

  async fill(filling: Filling): Promise<void> {
    this.#began = performance.now();
    this.#announce(filling);
    for (;;) {
      const lease = await this.options.coordinator.tryLead(this.#key);
      const complete = lease === undefined ? await this.#follow(filling) : await this.#lead(filling, lease);
      if (complete) return;
    }
  }

  async store(file: VerifiedFile, repositories: readonly Repository[]): Promise<void> {
    const { coordinator, shelf } = this.options;
    const until = performance.now() + settleMs;
    while (this.#lease === undefined) {
      const state = await coordinator.state(this.#key);
      if (state === 'done' || (await this.#isStored(file))) {
        await shelf.link(file, repositories);
        return;
      }
      // The leader stores it; should it die before it does, its lease lapses and this spool is as good.
      if (state !== 'led' || performance.now() > until) {
        this.#lease =
          (await coordinator.tryLead(this.#key)) ?? (performance.now() > until ? processLease : undefined);
      }
      if (this.#lease === undefined) await sleep(pollMs);
    }
    await shelf.take(file, repositories);
  }

  async close(stored: boolean): Promise<void> {
    clearInterval(this.#announcing);
    this.options.coordinator.withdrawSpool(this.#key, this.options.self);
    await this.#lease?.release(stored);
    await this.options.shelf.clear();
  }

  /** `false`: another replica leads now. */
  async #lead(filling: Filling, lease: Lease): Promise<boolean> {
    const { lead, log, role } = this.options;
    this.#lease = lease;
    await lease.publish(this.options.self);
    if (await this.#fillFromStore(filling)) return true;
    await this.#topUp(filling, undefined);
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
          await this.#topUp(filling, undefined);
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
    const trouble = await this.#readFrom(leader, filling);
    if (trouble === undefined || isWhole(filling)) return true;
    if (trouble.code === 'failed') return this.#shareFailure(filling, trouble);
    if (trouble.code === 'refused') return this.#alone(filling, 'the leading replica cannot be read');
    const openingUntil = wasFailing ? performance.now() + doubtfulMs : this.#began + openingMs;
    return this.#recover(filling, leader, openingUntil);
  }

  /** `none`: nobody leads any more, and nothing is stored. */
  async #findLeader(filling: Filling): Promise<PeerRecord | 'stored' | 'none' | undefined> {
    const { coordinator, self } = this.options;
    const until = performance.now() + leaderMs;
    do {
      const leader = await coordinator.leader(this.#key);
      if (leader !== undefined && leader.attempt !== self.attempt) return leader;
      const state = await coordinator.state(this.#key);
      if (state !== 'led' && (await this.#fillFromStore(filling))) return 'stored';
      if (state === 'free') return 'none';
      if (state === 'unknown') return undefined;
      await sleep(pollMs, undefined, { signal: filling.signal });
    } while (performance.now() < until);
    return (await this.#fillFromStore(filling)) ? 'stored' : undefined;
  }

  /** Reads the leader's spool to its end, over as many connections as bring it on; returns what prevented that. */
  async #readFrom(peer: PeerRecord, filling: Filling): Promise<PeerError | undefined> {
    for (;;) {
      const before = filling.length;
      try {
        for await (const event of this.#read(peer, filling)) await this.#take(event, filling);
        return undefined;
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
        if (error.code !== 'broken' || filling.length === before) return error;
      }
    }
  }

  /** What another replica has from where this one is, and what is wrong between the two. */
  async *#read(peer: PeerRecord, filling: Filling): AsyncGenerator<PeerEvent> {
    const { seal, neighbours } = this.options;
    const answerMs = neighbours.answerMs(peer.url);
    try {
      for await (const event of readPeer(peer, this.digest, filling.length, seal, filling.signal, answerMs)) {
        neighbours.answered(peer.url);
        yield event;
      }
    } catch (error) {
      if (error instanceof PeerError) neighbours.failed(error);
      throw error;
    }
  }

  async #take(event: PeerEvent, filling: Filling): Promise<void> {
    if ('bytes' in event) await filling.append(event.bytes);
    else await this.#open(event, filling);
  }

  /** The other replica's word, sealed, that an upstream gave the blob: good for the repositories that it names. */
  async #open({ size, repositories }: PeerProgress, filling: Filling): Promise<void> {
    if (repositories.length === 0) return; // it does not know yet
    for (;;) {
      const source = filling.nextSource();
      if (source === undefined) throw new Error('a transfer without a source');
      if (repositories.includes(source.stored) || (await this.#isConfirmed(source, filling))) {
        filling.open(source, size);
        return;
      }
    }
  }

  async #isConfirmed(source: Source, filling: Filling): Promise<boolean> {
    try {
      await source.upstream.headBlob(source.repository, this.digest, filling.signal);
      return true;
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      filling.refuse(source, error);
      if (filling.nextSource() === undefined) throw error;
      return false;
    }
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
      await this.#topUp(filling, leader);
      if (isWhole(filling)) return true;
      if (filling.length > reached) until = performance.now() + recoverMs;
      reached = filling.length;
      const state = await coordinator.state(this.#key);
      if (state !== 'led' && (await this.#fillFromStore(filling))) return true;
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

  /** Takes from other live spools what they have and this one lacks; the longest first. */
  async #topUp(filling: Filling, except: PeerRecord | undefined): Promise<void> {
    const { coordinator, self } = this.options;
    const spools = await coordinator.spools(this.#key);
    for (const spool of spools) {
      if (spool.attempt === self.attempt || spool.attempt === except?.attempt) continue;
      if (spool.length <= filling.length) continue;
      let has = spool.length;
      try {
        for await (const event of this.#read(spool, filling)) {
          await this.#take(event, filling);
          if ('length' in event) has = event.length;
          if (filling.length >= has) break;
        }
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
      }
    }
  }

  async #isStored({ digest, size }: VerifiedFile): Promise<boolean> {
    try {
      return (await this.options.shelf.blobs.stat(digest)) === size;
    } catch (error) {
      this.#surviveStore(error);
      return false;
    }
  }

  /** `true`: the store had it. One that is in trouble has nothing, or as much as it gave. */
  async #fillFromStore(filling: Filling): Promise<boolean> {
    try {
      return await this.#readStore(filling);
    } catch (error) {
      this.#surviveStore(error);
      return false;
    }
  }

  #surviveStore(err: unknown): void {
    if (!(err instanceof StorageError) || err.code === 'full') throw err;
    this.options.log.debug({ digest: this.digest, err }, 'the store cannot be read, going on without it');
  }

  async #readStore(filling: Filling): Promise<boolean> {
    const { damaged, shelf } = this.options;
    const { blobs } = shelf;
    const source = filling.nextSource();
    if (source === undefined) return false;
    const size = await blobs.stat(this.digest);
    if (size === undefined || size === damaged) return false;
    if (filling.length === 0 && filling.size === undefined && !(await this.#isConfirmed(source, filling)))
      return false;
    filling.open(filling.nextSource() ?? source, size);
    if (filling.length >= size) return true;
    const blob = await blobs.open(this.digest, { start: filling.length, end: undefined });
    if (blob === undefined) return false;
    try {
      // The store uses a chunk's memory again; the spool keeps what it is given.
      for await (const chunk of blob.body) await filling.append(Buffer.from(chunk));
    } finally {
      await blob.close();
    }
    return true;
  }

  #announce(filling: Filling): void {
    const { coordinator, self } = this.options;
    const tell = (): void => {
      if (filling.length > 0) coordinator.announceSpool(this.#key, { ...self, length: filling.length });
      if (this.#lease !== undefined && !isWhole(filling)) void this.#lookAhead(filling);
    };
    this.#announcing = setInterval(tell, announceMs).unref();
  }

  /** Who led until Redis lost its keys is further, and gives way to this one: its bytes are not fetched again. */
  async #lookAhead(filling: Filling): Promise<void> {
    const { coordinator, self } = this.options;
    const spools = await coordinator.spools(this.#key);
    const further = spools.find(
      ({ attempt, length }) =>
        attempt !== self.attempt && length > filling.length + worthwhile && !this.#further.has(attempt),
    );
    if (further === undefined) return;
    this.#further.add(further.attempt);
    this.#isOvertaken = true;
  }
}

/** All bytes are here; whether they are right is found out next. */
function isWhole({ length, size }: Filling): boolean {
  return size !== undefined && length === size;
}

function leadingRole(lease: Lease, filling: Filling): 'lead' | 'takeover' | 'alone' {
  if (lease.scope === 'process') return 'alone';
  return filling.length > 0 ? 'takeover' : 'lead';
}
