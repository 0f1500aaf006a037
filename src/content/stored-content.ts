import { loopTurn } from '../async/loop-turn.js';
import { Turns } from '../async/turns.js';
import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { JobRun, JobSummary, RemovalReason } from '../scheduler/job.js';
import { mapAtOnce } from '../storage/pages.js';
import { listAdded, writeList } from '../storage/repository-records.js';
import { StorageError } from '../storage/storage.js';
import { ContentIndex } from './content-index.js';
import { IndexDatabase } from './index-database.js';
import type { IndexedLink, Wanted } from './index-queries.js';
import { readHidden, readSummary, writeHidden, writeSummary, type Summary } from './content-records.js';
import type { CachedImage, ContentKeeper, ContentTotals } from './content.js';
import { lookThrough, type Sources, type Watch } from './look-through.js';
import { inPortions } from './portions.js';
import { atOnce, Removals, type RemovalParts } from './removals.js';
import { Tolerance } from './tolerance.js';

/** Evicting goes on until this much of `maxsize` is in use, and leaves so many times `minfree` free. */
const lowMark = 0.9;
const lowMarkFree = 1.1;
/** What manifests refer to is read again after this: what is gone would stay in the index. */
const indexLivesMs = 24 * 60 * 60_000;

export interface StoredContentOptions extends Sources, RemovalParts {
  /** A path for a scratch file. */
  readonly newFile: () => Promise<string>;
  /** All times to live, as a text that changes with them. */
  readonly ttls: string;
  /** The shortest of them, in milliseconds; `undefined`: nothing expires. */
  readonly shortestTtlMs: number | undefined;
  /** Nothing goes that was used more recently. */
  readonly graceMs: number;
  /** From hiding content to deleting it: the grace, within which caches forget it, and the lifetime of addresses. */
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
    using _turn = await this.#begin(run.signal);
    const summary = await this.#lastSummary(run);
    const now = this.options.clock.seconds;
    const due =
      summary?.ttls !== this.options.ttls ||
      (summary.nextExpiry ?? Infinity) <= now ||
      (summary.nextDeletion ?? Infinity) <= now;
    if (!due || !(await run.mayDelete())) {
      const { usage, inventory } = this.options;
      await new Tolerance(inventory, run).attempt('the record of uses', () => usage.compact(run.signal));
      return {};
    }
    return this.#work(run, (removals) => this.#unlink(removals, 'expired', 'expired'));
  }

  async evict(run: JobRun): Promise<JobSummary> {
    using _turn = await this.#begin(run.signal);
    const { usage } = this.options;
    const summary = await this.#lastSummary(run);
    if (summary !== undefined) {
      const added = await usage.storedSince(summary.at * 1000, run.signal);
      const excess = await this.#excess(summary.bytes + added, summary.hiddenBytes);
      if (excess === 0 && (summary.nextDeletion ?? Infinity) > this.options.clock.seconds) return {};
    }
    if (!(await run.mayDelete())) return {};
    return this.#work(run, (removals, index) => this.#evict(removals, index, run.signal));
  }

  async reindex(run: JobRun): Promise<JobSummary> {
    using _turn = await this.#begin(run.signal);
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
    using _turn = await this.#begin(run.signal);
    return {
      ...(await this.#sweepLeftovers(run)),
      ...(await this.#work(run, (removals, index) => this.#removeDangling(removals, index, run))),
    };
  }

  async collect(run: JobRun, untagged: boolean): Promise<JobSummary> {
    using _turn = await this.#begin(run.signal);
    const left = await this.#sweepLeftovers(run);
    const done = await this.#work(run, async (removals, index) => {
      await this.#removeDangling(removals, index, run);
      await this.#unlink(removals, 'expired', 'expired');
      if (untagged) await removals.unlinkUntagged(this.options.clock.seconds - this.#grace);
      await this.#evict(removals, index, run.signal);
    });
    return { ...left, ...done };
  }

  async purge(repository: Repository, reference: Tag | Digest | undefined, run: JobRun): Promise<JobSummary> {
    using _turn = await this.#begin(run.signal);
    return this.#work(run, (removals) => removals.purge(repository, reference));
  }

  async *images(watch: Watch): AsyncGenerator<readonly CachedImage[]> {
    using _turn = await this.#begin(watch.signal);
    const index = await this.#look(this.options.clock.seconds, watch);
    for (const page of index.queries.images()) {
      watch.signal.throwIfAborted();
      await loopTurn();
      if (page.length === 0) continue;
      yield page.map(({ repository, tag, digest, bytes, effective }) => ({
        repository,
        tag,
        digest,
        bytes,
        lastUsedMs: effective * 1000,
      }));
    }
  }

  async #begin(signal: AbortSignal): Promise<Disposable> {
    using undo = new DisposableStack();
    undo.use(await this.#turns.take(signal));
    await this.options.clock.set();
    return undo.move();
  }

  async totals(): Promise<ContentTotals | undefined> {
    try {
      const summary = await readSummary(this.options.records);
      return summary && totalsOf(summary);
    } catch (error) {
      if (error instanceof StorageError) return undefined;
      throw error;
    }
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
    const { records, inventory, waitMs, clock } = this.options;
    const began = clock.seconds;
    const added = await new Tolerance(inventory, run).attempt('the records of added repositories', () =>
      listAdded(records),
    );
    const index = await this.#look(began, run);
    await this.#readHidden(index, run);
    using removals = new Removals(index, this.options, run, began);
    await unlink(removals, index);
    const now = clock.seconds;
    await inPortions(index.settleHidden(now), run.signal);
    if (!run.dryRun) {
      // A storage that is full takes these again when something was deleted.
      const tolerance = new Tolerance(inventory, run);
      await tolerance.attempt('the record of hidden content', () =>
        writeHidden(records, index.queries.hidden()),
      );
      await tolerance.attempt('the record of uses', () => this.#saveUses(index, run));
    }
    if (deletes) {
      const wait = Math.max(1, Math.ceil(waitMs / 1000));
      // A replica renews content before it links it: a link that is newer than the look has a renewal that is, too.
      await removals.deleteHidden(now - wait, began - wait);
    }
    const summary = await this.#summarise(index, now, run);
    if (!run.dryRun) {
      await writeHidden(records, index.queries.hidden());
      await writeSummary(records, summary);
      this.options.observe(totalsOf(summary));
      if (!index.missesRepositories) {
        await new Tolerance(inventory, run).attempt('the list of repositories', () =>
          writeList(records, index.queries.repositories(), added?.value ?? []),
        );
      }
    }
    const { blobs, bytes, hiddenBytes } = summary;
    return { ...removals.counts, storedBlobs: blobs, storedBytes: bytes, hiddenBytes };
  }

  async #sweepLeftovers(run: JobRun): Promise<JobSummary> {
    if (run.dryRun) return {};
    const { inventory, sweepLeftovers } = this.options;
    const swept = await new Tolerance(inventory, run).attempt('unfinished uploads', sweepLeftovers);
    return swept?.value ?? {};
  }

  /** The index, where it is so old that a new one is to take its place. */
  #takeAged(): ContentIndex | undefined {
    if (this.options.clock.seconds * 1000 - this.#madeMs <= indexLivesMs) return undefined;
    const aged = this.#index;
    this.#index = undefined;
    return aged;
  }

  #saveUses(index: ContentIndex, { signal }: JobRun): Promise<void> {
    return this.options.usage.save((prefix) => index.queries.uses(prefix), signal);
  }

  /** `undefined`: none is known, so that there is a look through the storage. */
  async #lastSummary(run: JobRun): Promise<Summary | undefined> {
    const { records, inventory } = this.options;
    const read = await new Tolerance(inventory, run).attempt('the record of totals', () =>
      readSummary(records),
    );
    return read?.value;
  }

  async #readHidden(index: ContentIndex, run: JobRun): Promise<void> {
    const { records, inventory } = this.options;
    const { dryRun } = run;
    const tolerance = new Tolerance(inventory, run);
    let asWritten = true;
    const skip = (record: string, error: Error): Promise<void> => tolerance.report(record, error);
    for await (const page of readHidden(records, skip)) {
      asWritten = index.addHidden(page) && asWritten;
      await loopTurn();
    }
    // If this run unlinks it again and dies, it has not been hidden for so long.
    if (!asWritten && !dryRun) await writeHidden(records, index.queries.hidden());
  }

  async #look(now: number, watch: Watch): Promise<ContentIndex> {
    using earlier = this.#takeAged();
    if (this.#index === undefined) this.#madeMs = this.options.clock.seconds * 1000;
    this.#index ??= new ContentIndex(new IndexDatabase(await this.options.newFile()));
    const index = this.#index;
    try {
      await lookThrough(index, this.options, now, watch, earlier);
      return index;
    } catch (error) {
      // Half-filled, it is of no use; a new one is made from nothing.
      this.close();
      throw error;
    }
  }

  /** Until nothing more is wanted, or `enough` bytes are no longer needed by anybody. */
  async #unlink(removals: Removals, which: Wanted, why: RemovalReason, enough = Infinity): Promise<void> {
    for (let freed = 0; freed < enough;) {
      const now = this.options.clock.seconds;
      const batch = await removals.candidates(which, now - this.#grace, now);
      if (batch.length === 0) return;
      while (batch.length > 0 && freed < enough) {
        freed += await removals.unlink(takeFor(batch, enough - freed), why);
      }
    }
  }

  async #evict(removals: Removals, index: ContentIndex, signal: AbortSignal): Promise<void> {
    const hidden = await inPortions(index.queries.hiddenBytes(), signal);
    const excess = await this.#excess(index.bytes, removals.freedBytes + hidden);
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

  async #removeDangling(removals: Removals, index: ContentIndex, run: JobRun): Promise<void> {
    const { blobs, repositories, inventory } = this.options;
    const tolerance = new Tolerance(inventory, run);
    for (const page of index.queries.dangling()) {
      await run.step();
      await loopTurn();
      const sizes = await mapAtOnce(page, atOnce, run.signal, ({ digest }) =>
        tolerance.attempt(digest, () => blobs.stat(digest)),
      );
      const lost = page.filter((_link, n) => sizes[n] !== undefined && sizes[n].value === undefined);
      await removals.unlink(lost, 'dangling');
    }
    for (const page of index.queries.danglingTags()) {
      await run.step();
      await loopTurn();
      for (const tag of page) {
        const { repository, digest } = tag;
        // A manifest is linked before a tag points to it, but may have been looked for before.
        const linked = await tolerance.attempt(`${repository}@${digest}`, () =>
          repositories.hasManifest(repository, digest),
        );
        if (linked?.value === false) await removals.removeTag(tag, 'dangling');
      }
    }
  }

  async #summarise(index: ContentIndex, now: number, { signal }: JobRun): Promise<Summary> {
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
      hiddenBytes: await inPortions(index.queries.hiddenBytes(), signal),
      nextExpiry: expiries.length === 0 ? null : Math.ceil(Math.min(...expiries)),
      nextDeletion: hiddenSince === undefined ? null : hiddenSince + Math.ceil(waitMs / 1000),
      ttls,
    };
  }

  get #grace(): number {
    return Math.ceil(this.options.graceMs / 1000);
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
