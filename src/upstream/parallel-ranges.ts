import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.js';
import type { UpstreamLog, UpstreamObserver } from './observer.js';
import { RangedBody, type BlobRequests, type OpenedBlob } from './ranged-body.js';
import { UpstreamError, type FetchedBlob, type UpstreamCode } from './upstream.js';

/** When a blob comes in parts, over several connections. */
export interface RangesConfig {
  /** At a time, for one blob; 1: never. */
  readonly connections: number;
  /** In bytes: of less, what is left of a blob comes over one connection. */
  readonly minsize: number;
}

/** A part is in memory for as long as those before it are on their way. */
const usualPartSize = 4 * 1024 * 1024;
const usualPauseMs = 100;
/** Of all upstreams together. With as many taken, further blobs come over one connection each. */
const mostParts = 16;
/** How long an upstream that objected is asked for whole blobs. */
const objectedMs = 10 * 60_000;

/** By these it may be the range that the upstream does not take; asking for the whole blob tells. */
const firstObjections: ReadonlySet<UpstreamCode> = new Set(['range', 'invalid', 'server-error']);

/** The parts that this process may hold in memory at once. */
export class PartSlots {
  constructor(private free = mostParts) {}

  get left(): number {
    return this.free;
  }

  /** As many as there are, up to the number that is wanted; to be given back. */
  take(wanted: number): number {
    const taken = Math.min(wanted, this.free);
    this.free -= taken;
    return taken;
  }

  give(taken: number): void {
    this.free += taken;
  }
}

export interface ParallelRangesOptions extends RangesConfig {
  readonly host: string;
  readonly slots: PartSlots;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  readonly log: UpstreamLog;
  readonly observer: UpstreamObserver;
  /** In bytes. Default: 4 MiB. */
  readonly partSize?: number;
  /** Before a part that broke is gone on with. Default: 100 ms. */
  readonly pauseMs?: number;
}

/**
 * Fetches the large blobs of one upstream over several connections, where each of them has its limit.
 *
 * 1. The first request is for the first part. Its answer brings the first byte as soon as that of the whole blob
 *    would, says the size, and shows that ranges are given here; nothing has to be cut off, so its connection is kept.
 *    An upstream that answers with the whole blob has thereby answered as if there were no parts.
 * 2. What is left after it comes in parts beside each other, see {@link RangedBody}; or over one connection, where it
 *    is not large or too much is in memory already.
 * 3. An upstream that objects gives the rest over one connection, and whole blobs for a while.
 * 4. A blob that came in parts and is asked for once more was not right: it comes over one connection then.
 */
export class ParallelRanges {
  readonly #given: LRUCache<Digest, true>;
  readonly #partSize: number;
  #objectedUntil = 0;
  /** The log knows that it objects. */
  #isTold = false;

  constructor(private readonly options: ParallelRangesOptions) {
    this.#partSize = options.partSize ?? usualPartSize;
    const perf = { now: options.now };
    this.#given = new LRUCache({ max: 1_000, ttl: objectedMs, ttlResolution: 0, perf });
  }

  async fetch(
    digest: Digest,
    offset: number,
    requests: BlobRequests,
    signal: AbortSignal,
  ): Promise<FetchedBlob> {
    if (!this.#mayTry(digest)) return requests.open(offset, undefined, signal);
    const first = await this.#openFirst(offset, requests, signal);
    const { size, end } = first;
    if (end === undefined || size === undefined || end + 1 === size) return first;
    const { connections, minsize, slots } = this.options;
    const taken = size - offset < minsize ? 0 : slots.take(connections);
    const body = new RangedBody({
      first,
      offset,
      end,
      size,
      partSize: this.#partSize,
      pauseMs: this.options.pauseMs ?? usualPauseMs,
      connections: taken,
      requests,
      signal,
      host: this.options.host,
      objected: (error) => this.#objected(error),
      resumed: () => this.options.observer.partsFetched(this.options.host, 'resumed'),
      ended: (isWhole) => {
        slots.give(taken);
        if (isWhole && taken > 1) this.#ended(digest);
      },
    });
    if (taken > 1) this.options.observer.partsFetched(this.options.host, 'begun');
    return { size, body };
  }

  #mayTry(digest: Digest): boolean {
    const { now, slots } = this.options;
    return now() >= this.#objectedUntil && slots.left > 1 && !this.#given.has(digest);
  }

  /** The first part; or all, where the upstream gives no parts. */
  async #openFirst(offset: number, requests: BlobRequests, signal: AbortSignal): Promise<OpenedBlob> {
    let objection: UpstreamError;
    try {
      const first = await requests.open(offset, offset + this.#partSize - 1, signal);
      if (first.end === undefined) {
        // An empty blob has no range that could be given.
        if (first.size !== 0) this.#objected(this.#objection('answered with the whole blob'));
        return first;
      }
      if (first.size !== undefined) return first;
      objection = this.#objection('did not say the size of the whole');
      await first.body[Symbol.asyncIterator]().return?.(); // nobody reads it: its connection is given up
    } catch (error) {
      if (!(error instanceof UpstreamError) || !firstObjections.has(error.code)) throw error;
      objection = error;
    }
    const whole = await requests.open(offset, undefined, signal);
    this.#objected(objection); // else it is not the range that it objects to
    return whole;
  }

  #objection(answer: string): UpstreamError {
    return new UpstreamError('range', this.options.host, `asked for a part of a blob, it ${answer}`);
  }

  #objected(err: UpstreamError): void {
    const { host, log, now, observer } = this.options;
    this.#objectedUntil = now() + objectedMs;
    observer.partsFetched(host, 'objected');
    if (this.#isTold) return;
    this.#isTold = true;
    log.warn({ upstream: host, err }, 'the upstream gives no parts of blobs, it is asked for whole ones');
  }

  #ended(digest: Digest): void {
    this.#given.set(digest, true);
    this.#isTold = false;
  }
}
