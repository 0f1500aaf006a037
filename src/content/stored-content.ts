import { setImmediate as breathe } from 'node:timers/promises';
import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { JobRun, JobSummary, RemovalReason } from '../scheduler/job.js';
import { mapAtOnce } from '../storage/pages.js';
import type { RecordStore } from '../storage/storage.js';
import { ContentIndex } from './content-index.js';
import { IndexDatabase } from './index-database.js';
import type { IndexedLink, IndexedTag, Wanted } from './index-queries.js';
import { readHidden, readSummary, writeHidden, writeSummary, type Summary } from './content-records.js';
import type { CachedImage, ContentKeeper, ContentTotals } from './content.js';
import { inPortions, lookThrough, type Sources, type Watch } from './look-through.js';
import { atOnce, longestSkew, Removals, type RemovalParts } from './removals.js';
import { Turns } from './turns.js';

/** Evicting goes on until this much of `maxsize` is in use, and leaves so many times `minfree` free. */
const lowMark = 0.9;
const lowMarkFree = 1.1;
/** What manifests refer to is read again after this: what is gone would stay in the index. */
const indexLivesMs = 24 * 60 * 60_000;

export interface StoredContentOptions extends Sources, RemovalParts {
  readonly records: RecordStore;
  /** A path for a scratch file. */
  readonly newFile: () => Promise<string>;
  /** All times to live, as a text that changes with them. */
  readonly ttls: string;
  /** The shortest of them, in milliseconds; `undefined`: nothing expires. */
  readonly shortestTtlMs: number | undefined;
  /** Nothing goes that was used more recently. */
  readonly graceMs: number;
  /** From hiding content to deleting it: the longest of the grace and of the lifetimes of caches and addresses. */
  readonly waitMs: number;
  readonly maxBytes: number | undefined;
  readonly minFreeBytes: number | undefined;
  /** `undefined` where the storage does not say. */
  readonly freeBytes: () => Promise<number | undefined>;
  /** Removes what unfinished work has left behind, and says how much of it there was. */
  readonly sweepLeftovers: () => Promise<JobSummary>;
  readonly observe: (totals: ContentTotals) => void;
}

/** {@link ContentKeeper} over a storage. One thing at a time: there is one index for each process. */
export class StoredContent implements ContentKeeper {
  #index: ContentIndex | undefined;
  #madeMs = 0;
  readonly #turns = new Turns();

  constructor(private readonly options: StoredContentOptions) {}

  close(): void {
    this.#index?.[Symbol.dispose]();
    this.#index = undefined;
  }

  async expire(run: JobRun): Promise<JobSummary> {
    using _turn = await this.#turns.take(run.signal);
    const summary = await readSummary(this.options.records);
    const now = this.#seconds();
    const due =
      summary?.ttls !== this.options.ttls ||
      (summary.nextExpiry ?? Infinity) <= now ||
      (summary.nextDeletion ?? Infinity) <= now;
    if (!due || !(await run.mayDelete())) {
      await this.options.usage.compact(run.signal);
      return {};
    }
    return this.#work(run, (removals) => this.#unlink(removals, 'expired', 'expired'));
  }

  async evict(run: JobRun): Promise<JobSummary> {
    using _turn = await this.#turns.take(run.signal);
    const { records, usage } = this.options;
    const summary = await readSummary(records);
    if (summary !== undefined) {
      const added = await usage.storedSince(summary.at * 1000, run.signal);
      const excess = await this.#excess(summary.bytes + added, summary.hiddenBytes);
      if (excess === 0 && (summary.nextDeletion ?? Infinity) > this.#seconds()) return {};
    }
    if (!(await run.mayDelete())) return {};
    return this.#work(run, (removals, index) => this.#evict(removals, index));
  }

  async reindex(run: JobRun): Promise<JobSummary> {
    using _turn = await this.#turns.take(run.signal);
    const { descriptors } = this.options.cluster;
    return this.#work(
      run,
      async (_removals, index) => {
        let done = 0;
        for (const page of index.queries.described()) {
          await descriptors.share(
            page.map(({ repository, descriptor }) => [`${repository}@${descriptor.digest}`, descriptor]),
          );
          done += page.length;
          run.progress({ doing: 'sharing descriptors', done, total: undefined });
          await run.step();
        }
      },
      false,
    );
  }

  async sweep(run: JobRun): Promise<JobSummary> {
    using _turn = await this.#turns.take(run.signal);
    const left = run.dryRun ? {} : await this.options.sweepLeftovers();
    return {
      ...left,
      ...(await this.#work(run, (removals, index) => this.#removeDangling(removals, index, run.signal))),
    };
  }

  async collect(run: JobRun, untagged: boolean): Promise<JobSummary> {
    using _turn = await this.#turns.take(run.signal);
    const left = run.dryRun ? {} : await this.options.sweepLeftovers();
    const done = await this.#work(run, async (removals, index) => {
      await this.#removeDangling(removals, index, run.signal);
      await this.#unlink(removals, 'expired', 'expired');
      if (untagged) await this.#unlink(removals, 'untagged', 'untagged');
      await this.#evict(removals, index);
    });
    return { ...left, ...done };
  }

  async purge(repository: Repository, reference: Tag | Digest | undefined, run: JobRun): Promise<JobSummary> {
    using _turn = await this.#turns.take(run.signal);
    return this.#work(run, (removals) => removals.purge(repository, reference));
  }

  async *images(watch: Watch): AsyncGenerator<readonly CachedImage[]> {
    using _turn = await this.#turns.take(watch.signal);
    const index = await this.#look(this.#seconds(), watch);
    for (const page of index.queries.images()) {
      watch.signal.throwIfAborted();
      yield page.map(({ repository, tag, digest, bytes, effective }) => ({
        repository,
        tag,
        digest,
        bytes,
        lastUsedMs: effective * 1000,
      }));
    }
  }

  async totals(): Promise<ContentTotals | undefined> {
    const summary = await readSummary(this.options.records);
    return summary && totalsOf(summary);
  }

  /**
   * Looks through the storage, lets links be removed, notes what is hidden since, deletes what was hidden long
   * enough ago, and writes down what is known then.
   */
  async #work(
    run: JobRun,
    unlink: (removals: Removals, index: ContentIndex) => Promise<void>,
    deletes = true,
  ): Promise<JobSummary> {
    const { records, rescues, usage, inventory, waitMs } = this.options;
    const began = this.#seconds();
    const index = await this.#look(began, run);
    await this.#readHidden(index, run);
    using removals = new Removals(index, this.options, run, began);
    await unlink(removals, index);
    const now = this.#seconds();
    await inPortions(index.settleHidden(now), run.signal);
    if (!run.dryRun) {
      await writeHidden(records, index.queries.hidden());
      await usage.save((digit) => index.queries.uses(digit), run.signal);
      await rescues.forget(began - Math.min(this.#grace, longestSkew), run.signal);
    }
    if (deletes) {
      const wait = Math.max(1, Math.ceil(waitMs / 1000));
      const storageNow = Math.floor((await inventory.now()) / 1000);
      await removals.deleteHidden(now - wait, storageNow - wait);
    }
    const summary = this.#summarise(index, now);
    if (!run.dryRun) {
      await writeHidden(records, index.queries.hidden());
      await writeSummary(records, summary);
      this.options.observe(totalsOf(summary));
    }
    const { blobs, bytes, hiddenBytes } = summary;
    return { ...removals.counts, storedBlobs: blobs, storedBytes: bytes, hiddenBytes };
  }

  async #readHidden(index: ContentIndex, { dryRun }: JobRun): Promise<void> {
    const { records } = this.options;
    let asWritten = true;
    for await (const page of readHidden(records)) {
      asWritten = index.addHidden(page) && asWritten;
      await breathe();
    }
    // If this run unlinks it again and dies, it has not been hidden for so long.
    if (!asWritten && !dryRun) await writeHidden(records, index.queries.hidden());
  }

  async #look(now: number, watch: Watch): Promise<ContentIndex> {
    if (this.options.now() - this.#madeMs > indexLivesMs) this.close();
    if (this.#index === undefined) this.#madeMs = this.options.now();
    this.#index ??= new ContentIndex(new IndexDatabase(await this.options.newFile()));
    const index = this.#index;
    try {
      await lookThrough(index, this.options, now, watch);
      return index;
    } catch (error) {
      // Half-filled, it is of no use; a new one is made from nothing.
      this.close();
      throw error;
    }
  }

  /** Until nothing more is wanted, or `enough` bytes are no longer needed by anybody. */
  async #unlink(removals: Removals, which: Wanted, why: RemovalReason, enough = Infinity): Promise<void> {
    let freed = 0;
    for (let from = 0; freed < enough;) {
      const now = this.#seconds();
      const batch = await removals.candidates(which, from, now - this.#grace, now);
      if (batch.length === 0) return;
      from = batch[0]?.effective ?? now;
      while (batch.length > 0 && freed < enough) {
        freed += await removals.unlink(takeFor(batch, enough - freed), why);
      }
    }
  }

  async #evict(removals: Removals, index: ContentIndex): Promise<void> {
    const excess = await this.#excess(index.bytes, removals.freedBytes + index.queries.hiddenBytes());
    if (excess > 0) await this.#unlink(removals, 'any', 'evicted', excess);
  }

  /** Bytes that are to go, besides those that will go anyway. */
  async #excess(stored: number, leaving: number): Promise<number> {
    const { maxBytes, minFreeBytes, freeBytes } = this.options;
    const kept = stored - leaving;
    const tooMuch = maxBytes !== undefined && kept > maxBytes ? kept - maxBytes * lowMark : 0;
    const free = minFreeBytes === undefined ? undefined : await freeBytes();
    const short =
      free === undefined || minFreeBytes === undefined || free + leaving >= minFreeBytes
        ? 0
        : minFreeBytes * lowMarkFree - free - leaving;
    return Math.ceil(Math.max(tooMuch, short));
  }

  async #removeDangling(removals: Removals, index: ContentIndex, signal: AbortSignal): Promise<void> {
    for (
      let page = index.queries.dangling(undefined);
      page.length > 0;
      page = index.queries.dangling(page.at(-1))
    ) {
      const sizes = await mapAtOnce(page, atOnce, signal, ({ digest }) => this.options.blobs.stat(digest));
      const lost = page.filter((_link, n) => sizes[n] === undefined);
      await removals.unlink(lost, 'dangling');
    }
    for (let after: IndexedTag | undefined; ;) {
      const page = index.queries.danglingTags(after);
      for (const tag of page) {
        // A manifest is linked before a tag points to it, but may have been looked for before.
        if (!(await this.options.repositories.hasManifest(tag.repository, tag.digest))) {
          await removals.removeTag(tag, 'dangling');
        }
      }
      after = page.at(-1);
      if (after === undefined) return;
    }
  }

  #summarise(index: ContentIndex, now: number): Summary {
    const { ttls, shortestTtlMs, waitMs } = this.options;
    const hiddenSince = index.queries.hiddenSince();
    // What comes in from now on has at least the shortest time.
    const expiries =
      shortestTtlMs === undefined
        ? []
        : [index.queries.firstExpiry() ?? Infinity, now + shortestTtlMs / 1000];
    return {
      at: now,
      blobs: index.blobs,
      bytes: index.bytes,
      hiddenBytes: index.queries.hiddenBytes(),
      nextExpiry: expiries.length === 0 ? null : Math.ceil(Math.min(...expiries)),
      nextDeletion: hiddenSince === undefined ? null : hiddenSince + Math.ceil(waitMs / 1000),
      ttls,
    };
  }

  get #grace(): number {
    return Math.ceil(this.options.graceMs / 1000);
  }

  #seconds(): number {
    return Math.floor(this.options.now() / 1000);
  }
}

/** The next few, but no more than it takes to come by so many bytes. */
function takeFor(links: IndexedLink[], bytes: number): IndexedLink[] {
  let count = 0;
  for (let sum = 0; count < Math.min(links.length, atOnce) && sum < bytes; count += 1) {
    sum += links[count]?.size ?? 0;
  }
  return links.splice(0, count);
}

function totalsOf({ at, blobs, bytes, hiddenBytes }: Summary): ContentTotals {
  return { blobs, bytes, hiddenBytes, atMs: at * 1000 };
}
