import { randomBytes } from 'node:crypto';
import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { RecordStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { formatJournal, journalKey, useKey, useOf } from './records.js';
import type { Use, UsageRecorder } from './usage.js';

/** After a quiet time the first use is written so soon, and then as often; sooner with a short grace. */
const soonMs = 1_000;
const longestMs = 30_000;
/** In one journal, which is read as a whole. */
const mostInJournal = 20_000;
/** While the storage takes nothing; more than any mirror sees in half a minute. */
const mostWaiting = 200_000;

/** Uses between the requests and the storage. A process that is killed loses those of half a minute. */
export class UsageLog implements UsageRecorder {
  readonly #everyMs: number;
  readonly #process = randomBytes(8).toString('hex');
  /** The second of each use's last time, by {@link useKey}. */
  readonly #waiting = new Map<string, number>();
  /** What is being written. */
  #writing: ReadonlyMap<string, number> = new Map();
  /** How often something is being read now. */
  readonly #held = new Map<string, number>();
  /** Told of each use while a job takes content away. */
  readonly #watchers = new Set<(key: string) => void>();
  #storedBytes = 0;
  #forgotten = 0;
  #failing = false;
  #timer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();
  /** When something was last written: on the monotonic clock, and the time in the journal's name. */
  #wrote = -Infinity;
  #named = 0;

  constructor(
    private readonly records: RecordStore,
    private readonly log: Logger,
    /** What was used within this time is not deleted: other replicas must know of it well before. */
    graceMs: number,
  ) {
    this.#everyMs = Math.min(longestMs, graceMs / 2);
  }

  touch(repository: Repository, digest: Digest): void {
    this.#note(useKey(repository, digest), secondsNow());
  }

  hold(repository: Repository, digest: Digest): () => void {
    const key = useKey(repository, digest);
    this.#held.set(key, (this.#held.get(key) ?? 0) + 1);
    this.#note(key, secondsNow());
    return () => {
      const others = (this.#held.get(key) ?? 1) - 1;
      if (others > 0) this.#held.set(key, others);
      else this.#held.delete(key);
      this.#note(key, secondsNow());
    };
  }

  stored(bytes: number): void {
    this.#storedBytes += bytes;
    this.#schedule();
  }

  /** Bytes stored that no journal tells of yet. */
  get unwrittenBytes(): number {
    return this.#storedBytes;
  }

  /** Uses that no journal tells of yet. */
  *unwritten(): Generator<Use> {
    for (const [key, at] of this.#writing) yield useOf(key, at);
    for (const [key, at] of this.#waiting) yield useOf(key, at);
    for (const key of this.#held.keys()) yield useOf(key, secondsNow());
  }

  /** Tells of each use at the moment when it is noted, until the result is disposed of. */
  watch(told: (repository: Repository, digest: Digest) => void): Disposable {
    const watcher = (key: string): void => {
      const { repository, digest } = useOf(key, 0);
      told(repository, digest);
    };
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  /** Writes what is left. Never throws: what the storage does not take is said in the log. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#flushing;
    clearTimeout(this.#timer);
    await this.#flush();
    clearTimeout(this.#timer);
  }

  #note(key: string, at: number): void {
    this.#waiting.set(key, at);
    for (const watcher of this.#watchers) watcher(key);
    if (this.#timer === undefined) this.#schedule();
    if (this.#waiting.size > mostWaiting) this.#forgetOldest();
  }

  /** Without room, a tenth goes: those that were noted first. Their last use is then known as it was before. */
  #forgetOldest(): void {
    for (const key of this.#waiting.keys()) {
      if (this.#waiting.size <= mostWaiting * 0.9) return;
      this.#waiting.delete(key);
      this.#forgotten += 1;
    }
  }

  #schedule(): void {
    if (this.#timer !== undefined) return;
    const inMs = Math.max(Math.min(soonMs, this.#everyMs), this.#wrote + this.#everyMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#flushing = this.#flush();
    }, inMs).unref();
  }

  /** The timer counts as set until it is done, so that one is written at a time. */
  async #flush(): Promise<void> {
    for (const key of this.#held.keys()) this.#waiting.set(key, secondsNow());
    while (this.#waiting.size > 0 || this.#storedBytes > 0) {
      const batch = this.#takeBatch();
      const bytes = this.#storedBytes;
      this.#writing = batch;
      this.#wrote = performance.now();
      const written = await this.#write(batch, bytes);
      if (written) this.#storedBytes -= bytes;
      else this.#putBack(batch);
      this.#writing = new Map();
      if (!written || batch.size < mostInJournal) break;
    }
    this.#timer = undefined;
    if (this.#waiting.size > 0 || this.#held.size > 0 || this.#storedBytes > 0) this.#schedule();
  }

  /** The first few of what waits. */
  #takeBatch(): ReadonlyMap<string, number> {
    const batch = new Map<string, number>();
    for (const [key, at] of this.#waiting) {
      batch.set(key, at);
      this.#waiting.delete(key);
      if (batch.size === mostInJournal) break;
    }
    return batch;
  }

  /** `false`: not written. */
  async #write(batch: ReadonlyMap<string, number>, bytes: number): Promise<boolean> {
    this.#named = Math.max(Date.now(), this.#named + 1);
    try {
      await this.records.writeRecord(journalKey(this.#process, this.#named), formatJournal(bytes, batch));
    } catch (err) {
      if (!this.#failing) this.log.warn({ err }, 'uses cannot be written; they are kept until they can');
      this.#failing = true;
      return false;
    }
    if (this.#failing)
      this.log.info({ uses: batch.size, forgotten: this.#forgotten }, 'uses are written again');
    this.#failing = false;
    this.#forgotten = 0;
    return true;
  }

  #putBack(batch: ReadonlyMap<string, number>): void {
    for (const [key, at] of batch) {
      if (!this.#waiting.has(key)) this.#note(key, at);
    }
  }
}

/** Where nothing is written: a mirror of no upstream, which may stand on a read-only folder. */
export const unrecorded: UsageRecorder = {
  touch: () => undefined,
  hold: () => () => undefined,
  stored: () => undefined,
};

function secondsNow(): number {
  return Math.floor(Date.now() / 1000);
}
