import { setTimeout as sleep } from 'node:timers/promises';
import type { ByteRange } from '../oci/range.js';
import { UpstreamError, type FetchedBlob, type UpstreamCode } from './upstream.js';

/** Requests for one blob. */
export interface BlobRequests {
  /**
   * From a byte on: up to `end`, this byte included, or to the blob's own. Where the upstream ignores the range, to
   * the blob's own end all the same.
   */
  open(start: number, end: number | undefined, signal: AbortSignal): Promise<OpenedBlob>;
  /** Exactly this range. */
  range(range: ByteRange, signal: AbortSignal): Promise<FetchedBlob>;
}

export interface OpenedBlob extends FetchedBlob {
  /** The last byte that the body gives; `undefined`: the blob's own. */
  readonly end: number | undefined;
}

/** A part that broke after this much is gone on with here; after less it is for whoever reads to say. */
const progress = 64 * 1024;
const broken: ReadonlySet<UpstreamCode> = new Set(['broken-body', 'timeout']);

/** By these an upstream says that it does not give blobs in parts, or not as many as were asked for. */
const objections: ReadonlySet<UpstreamCode> = new Set([
  'range',
  'invalid',
  'rate-limited',
  'denied',
  'not-found',
]);

export interface RangedBodyPlan {
  /** The first part, opened; its body begins at `offset` and ends with byte `end`. */
  readonly first: OpenedBlob;
  readonly offset: number;
  readonly end: number;
  /** Of the whole blob. */
  readonly size: number;
  readonly partSize: number;
  /** Before a part that broke is gone on with. */
  readonly pauseMs: number;
  /** Parts at a time; less than two: the rest comes over one connection. */
  readonly connections: number;
  readonly requests: BlobRequests;
  readonly signal: AbortSignal;
  readonly host: string;
  /** The upstream does not give parts. */
  objected(error: UpstreamError): void;
  /** A part broke and goes on. */
  resumed(): void;
  /** Once. `isWhole`: all bytes were read. */
  ended(isWhole: boolean): void;
}

/** Bytes in their order. */
interface Part {
  /** The first byte that it has not given. */
  readonly reached: number;
  /** Whether it will end before its last byte. */
  readonly hasFailed: boolean;
  /** `undefined`: all were given. Throws what kept it from the others, after those that came. */
  next(): Promise<Uint8Array | undefined>;
}

/**
 * A blob's bytes in their order, fetched in parts beside each other.
 *
 * 1. The parts lie in a row. So many of them are on their way at a time, and a further one is begun when the first
 *    of them has been read: there is never more in memory than these, however slowly they are read.
 * 2. A part that breaks is gone on with from the byte that it reached.
 * 3. When the upstream objects to a part, the rest comes over one connection from the byte that was reached.
 * 4. Any other trouble is thrown when its byte is reached; what is ahead of it is dropped.
 *
 * Ending the iteration gives up all connections, also before the first step.
 */
export class RangedBody implements AsyncIterableIterator<Uint8Array> {
  /** Ends the parts. */
  readonly #stop = new AbortController();
  /** Ends what comes over one connection instead. */
  readonly #stopRest = new AbortController();
  readonly #first: AsyncIterator<Uint8Array>;
  readonly #signal: AbortSignal;
  /** Begun, in their order. */
  readonly #parts: Part[];
  /** Where the next part begins, up to where there are any. */
  #planned: number;
  readonly #until: number;
  #rest: Promise<AsyncIterator<Uint8Array>> | undefined;
  #hasEnded = false;

  constructor(private readonly plan: RangedBodyPlan) {
    const { first, offset, end, size, connections, signal } = plan;
    this.#signal = AbortSignal.any([signal, this.#stop.signal]);
    this.#planned = end + 1;
    this.#until = connections < 2 ? this.#planned : size;
    this.#first = first.body[Symbol.asyncIterator]();
    this.#parts = [this.#newPart(offset, end, this.#first)];
    this.#begin();
    // Asked for at once, and read when it is its turn: meanwhile the connection holds it back.
    if (this.#until === this.#planned) this.#rest = this.#openRest(this.#planned);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    try {
      for (;;) {
        const [part] = this.#parts;
        if (part === undefined) return await this.#nextOfRest();
        const chunk = await this.#nextOf(part);
        if (chunk !== undefined) return { done: false, value: chunk };
      }
    } catch (error) {
      this.#end(false);
      throw this.plan.signal.aborted ? this.plan.signal.reason : error;
    }
  }

  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#end(false);
    return Promise.resolve({ done: true, value: undefined });
  }

  /** `undefined`: it is done with, one way or the other. */
  async #nextOf(part: Part): Promise<Uint8Array | undefined> {
    try {
      const chunk = await part.next();
      if (chunk !== undefined) return chunk;
      this.#parts.shift();
      this.#begin();
    } catch (error) {
      const objects = error instanceof UpstreamError && objections.has(error.code);
      if (!objects || this.plan.signal.aborted) throw error;
      this.plan.objected(error);
      this.#stop.abort();
      this.#parts.length = 0;
      this.#rest = this.#openRest(part.reached);
    }
    return undefined;
  }

  async #nextOfRest(): Promise<IteratorResult<Uint8Array, undefined>> {
    const step = this.#rest === undefined ? undefined : await (await this.#rest).next();
    if (step !== undefined && step.done !== true) return { done: false, value: step.value };
    this.#end(true);
    return { done: true, value: undefined };
  }

  /** Begins as many parts as may be on their way. None when one has failed: what comes after it is not read. */
  #begin(): void {
    const { connections, partSize } = this.plan;
    while (
      this.#planned < this.#until &&
      this.#parts.length < connections &&
      !this.#parts.some(({ hasFailed }) => hasFailed)
    ) {
      const end = Math.min(this.#planned + partSize, this.#until) - 1;
      this.#parts.push(new PartAhead(this.#newPart(this.#planned, end, undefined)));
      this.#planned = end + 1;
    }
  }

  #newPart(start: number, end: number, body: AsyncIterator<Uint8Array> | undefined): ResumedPart {
    const open = (from: number): Promise<AsyncIterator<Uint8Array>> => this.#openPart(from, end);
    const resume = async (): Promise<void> => {
      this.plan.resumed();
      await sleep(this.plan.pauseMs, undefined, { signal: this.#signal });
    };
    return new ResumedPart(start, open, body, resume);
  }

  async #openPart(start: number, end: number): Promise<AsyncIterator<Uint8Array>> {
    const { requests, size, host } = this.plan;
    const fetched = await requests.range({ start, end }, this.#signal);
    const body = fetched.body[Symbol.asyncIterator]();
    if (fetched.size === undefined || fetched.size === size) return body;
    await body.return?.(); // nobody reads it: its connection is given up
    throw new UpstreamError('range', host, `gave a part of ${fetched.size} bytes, before of ${size}`);
  }

  #openRest(start: number): Promise<AsyncIterator<Uint8Array>> {
    const { requests, signal } = this.plan;
    const opened = requests
      .open(start, undefined, AbortSignal.any([signal, this.#stopRest.signal]))
      .then(({ body }) => body[Symbol.asyncIterator]());
    opened.catch(() => undefined); // told when it is read
    return opened;
  }

  #end(isWhole: boolean): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (!isWhole) {
      this.#stop.abort();
      this.#stopRest.abort();
      this.#first.return?.().catch(() => undefined); // it is being read: the signal ends it
    }
    this.plan.ended(isWhole);
  }
}

/** A part that is read as it comes; where it breaks, the rest of it is asked for. */
class ResumedPart implements Part {
  readonly hasFailed = false;
  #reached: number;
  /** Where it was opened last. */
  #since: number;

  constructor(
    start: number,
    private readonly open: (from: number) => Promise<AsyncIterator<Uint8Array>>,
    private body: AsyncIterator<Uint8Array> | undefined,
    /** Settles when it may be asked for again. */
    private readonly resume: () => Promise<void>,
  ) {
    this.#reached = start;
    this.#since = start;
  }

  get reached(): number {
    return this.#reached;
  }

  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      try {
        this.body ??= await this.open(this.#reached);
        const step = await this.body.next();
        if (step.done === true) return undefined;
        this.#reached += step.value.byteLength;
        return step.value;
      } catch (error) {
        const isBroken = error instanceof UpstreamError && broken.has(error.code);
        if (!isBroken || this.#reached < this.#since + progress) throw error;
        this.body = undefined;
        this.#since = this.#reached;
        await this.resume();
      }
    }
  }
}

/** A part that is read before its turn, into memory. */
class PartAhead implements Part {
  readonly #chunks: Uint8Array[] = [];
  #reached: number;
  #state: 'running' | 'whole' | 'failed' = 'running';
  #error: unknown;
  #changed = Promise.withResolvers<void>();

  constructor(part: Part) {
    this.#reached = part.reached;
    void this.#run(part);
  }

  get reached(): number {
    return this.#reached;
  }

  get hasFailed(): boolean {
    return this.#state === 'failed';
  }

  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#reached += chunk.byteLength;
        return chunk;
      }
      if (this.#state === 'whole') return undefined;
      if (this.#state === 'failed') throw this.#error;
      await this.#changed.promise;
    }
  }

  async #run(part: Part): Promise<void> {
    try {
      for (let chunk = await part.next(); chunk !== undefined; chunk = await part.next()) {
        this.#chunks.push(chunk);
        this.#tell();
      }
      this.#state = 'whole';
    } catch (error) {
      this.#state = 'failed';
      this.#error = error;
    }
    this.#tell();
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
