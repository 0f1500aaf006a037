import { setTimeout as sleep } from 'node:timers/promises';
import type { Coordinator, PeerRecord } from '../cluster/cluster.js';
import type { PeerProgress } from '../cluster/peers/frames.js';
import type { Neighbours } from '../cluster/peers/neighbours.js';
import { PeerError, readPeer, type PeerEvent } from '../cluster/peers/peer-client.js';
import type { Seal } from '../cluster/peers/seal.js';
import type { Tracing } from '../telemetry/tracing.js';
import { confirmSize, isProven, type Filling } from './filler.js';

/** A replica of an earlier version may send bytes before it names their upstream. A new connection names it first. */
const mostEarly = 3;
/** Another spool that is so much longer is worth leaving the upstream for. */
const worthwhile = 1024 * 1024;
/** Pauses before a broken stream is read again, in milliseconds. They start anew after `progress` more bytes. */
const resumePauses = [0, 50, 250, 1_000];
const progress = 64 * 1024;

export interface OtherSpoolsOptions {
  readonly coordinator: Pick<Coordinator, 'spools'>;
  readonly seals: () => readonly Seal[];
  readonly neighbours: Neighbours;
  readonly self: PeerRecord;
  readonly tracing: Tracing | undefined;
}

/** What other replicas have of a transfer's blob, taken from their live spools. */
export class OtherSpools {
  /** Attempts that were found to be further, once each. */
  readonly #further = new Set<string>();

  constructor(
    /** The work's, by which the spools are announced. */
    private readonly key: string,
    private readonly options: OtherSpoolsOptions,
  ) {}

  /** Reads one spool to its end, over as many connections as bring it on; returns what prevented that. */
  async readFrom(peer: PeerRecord, filling: Filling): Promise<PeerError | undefined> {
    let early = 0;
    let breaks = 0;
    for (;;) {
      const before = filling.length;
      try {
        for await (const event of this.#read(peer, filling)) await this.#take(event, peer, filling);
        return undefined;
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
        if (error.code === 'early' && early < mostEarly) {
          early += 1;
          continue;
        }
        if (filling.length >= before + progress) breaks = 0;
        const pause = resumePauses[breaks];
        if (error.code !== 'broken' || filling.length === before || pause === undefined) return error;
        breaks += 1;
        if (pause > 0) await sleep(pause, undefined, { signal: filling.signal });
      }
    }
  }

  /** Takes what they have and this one lacks; the longest first. */
  async topUp(filling: Filling, except: PeerRecord | undefined): Promise<void> {
    const { coordinator, self } = this.options;
    const spools = await coordinator.spools(this.key);
    for (const spool of spools) {
      if (spool.attempt === self.attempt || spool.attempt === except?.attempt) continue;
      if (spool.length <= filling.length) continue;
      let has = spool.length;
      try {
        for await (const event of this.#read(spool, filling)) {
          await this.#take(event, spool, filling);
          if ('length' in event) has = event.length;
          if (filling.length >= has) break;
        }
      } catch (error) {
        if (!(error instanceof PeerError)) throw error;
      }
    }
  }

  /** Whether one has come up that is so much further that it is worth topping up from; each is told of once. */
  async foundFurther(filling: Filling): Promise<boolean> {
    const { coordinator, self } = this.options;
    const spools = await coordinator.spools(this.key);
    const further = spools.find(
      ({ attempt, length }) =>
        attempt !== self.attempt && length > filling.length + worthwhile && !this.#further.has(attempt),
    );
    if (further !== undefined) this.#further.add(further.attempt);
    return further !== undefined;
  }

  async #take(event: PeerEvent, peer: PeerRecord, filling: Filling): Promise<void> {
    if (!('bytes' in event)) await this.#open(event, peer, filling);
    else if (filling.isOpen) await filling.append(event.bytes);
    else throw new PeerError('early', peer.url, 'sent bytes before it named their upstream');
  }

  /**
   * Accepts the other replica's sealed statement that an upstream gave the blob, for the repositories that it names.
   * The upstream of any other repository has to confirm the size; without a size, the blob is fetched from that
   * upstream.
   */
  async #open({ size, repositories }: PeerProgress, peer: PeerRecord, filling: Filling): Promise<void> {
    if (repositories.length === 0) return; // it does not know yet
    for (;;) {
      const source = filling.nextSource();
      if (source === undefined) throw new Error('a transfer without a source');
      if (!isProven(filling, size) && !repositories.includes(source.stored)) {
        const answer = size === undefined ? 'unproven' : await confirmSize(source, filling, size);
        if (answer === 'refused') continue;
        if (answer === 'unproven') {
          throw new PeerError(
            'unproven',
            peer.url,
            'has content that the upstream of this repository does not confirm',
          );
        }
      }
      filling.open(source, size);
      return;
    }
  }

  /** What another replica has from where this one is, and what is wrong between the two. */
  async *#read(peer: PeerRecord, filling: Filling): AsyncGenerator<PeerEvent> {
    const { seals, neighbours, tracing } = this.options;
    const { digest, length, signal } = filling;
    const answerMs = neighbours.answerMs(peer.url);
    const headers = tracing?.headers();
    const all = seals();
    for (const [index, seal] of all.entries()) {
      try {
        for await (const event of readPeer(peer, digest, length, seal, signal, { answerMs, headers })) {
          neighbours.answered(peer.url);
          yield event;
        }
        return;
      } catch (error) {
        // Refused before it said anything: it may not have seen the newest secret yet.
        if (error instanceof PeerError && error.code === 'refused' && index + 1 < all.length) continue;
        if (error instanceof PeerError) neighbours.failed(error);
        throw error;
      }
    }
  }
}
