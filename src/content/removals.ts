import { loopTurn } from '../async/loop-turn.js';
import type { Cluster } from '../cluster/cluster.js';
import { parseDigest, type Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { JobRun, JobSummary, Removal, RemovalReason } from '../scheduler/job.js';
import { mapAtOnce } from '../storage/pages.js';
import type { BlobStore, Deletes, Inventory, RecordStore, RepositoryStore } from '../storage/storage.js';
import type { InUse, InUseHistory, UnknownUses, Use, UsageHistory } from '../usage/usage.js';
import type { BlobRemoval } from './blob-removal.js';
import type { ContentIndex } from './content-index.js';
import type { IndexedBlob, IndexedLink, IndexedTag, Wanted } from './index-queries.js';
import { learnLate, notAfter } from './look-through.js';
import { inPortions } from './portions.js';
import type { StorageClock } from './storage-clock.js';
import { Tolerance } from './tolerance.js';

/** What other replicas have noted is read again this often; they write it down about as often. */
const notedEveryMs = 30_000;
/**
 * In seconds. What was noted so long before a look began, the look has seen, also when another replica's clock is
 * wrong; a shorter grace says how far clocks may differ.
 */
const longestSkew = 10 * 60;
/** Removals that are under way at the same time. */
export const atOnce = 8;
/** So many are told of in one turn of the event loop. */
const pageLength = 100;

export interface RemovalParts {
  readonly inventory: Inventory;
  readonly deletes: Deletes;
  readonly blobs: BlobStore;
  readonly repositories: RepositoryStore;
  readonly records: RecordStore;
  readonly removal: BlobRemoval;
  readonly usage: UsageHistory;
  readonly inUse: Pick<InUseHistory, 'images'>;
  readonly cluster: Pick<Cluster, 'descriptors' | 'tags'>;
  readonly clock: StorageClock;
}

/** What one run takes away, and the looks it takes before each step. In a dry run only the index changes. */
export class Removals implements Disposable {
  readonly #counts = new Map<string, number>();
  /** Bytes of what nothing needs any more since a link was removed. */
  freedBytes = 0;
  #notedAt = -Infinity;
  /** In this process, not yet in the index. */
  readonly #uses = new Map<string, Use>();
  #learning: Promise<void> = Promise.resolve();
  readonly #watching: Disposable;
  readonly #tolerance: Tolerance;
  /** Something that may be used now could not be read: nothing more is taken away in this run. */
  #blind = false;

  constructor(
    private readonly index: ContentIndex,
    private readonly parts: RemovalParts,
    private readonly run: JobRun,
    /** When the look through the storage began that the index is of, in seconds since 1970. */
    private readonly lookedAt: number,
  ) {
    const note = (use: Use): void => void this.#uses.set(`${use.repository}@${use.digest}`, use);
    this.#watching = parts.usage.watch((repository, digest) => {
      // A second more, so that it is later than any use that was decided on.
      note({ repository, digest, at: parts.clock.seconds + 1 });
    });
    for (const use of parts.usage.unwritten()) note(notAfter(use, parts.clock.seconds));
    this.#tolerance = new Tolerance(parts.inventory, run);
  }

  [Symbol.dispose](): void {
    this.#watching[Symbol.dispose]();
  }

  get counts(): JobSummary {
    return Object.fromEntries(this.#counts);
  }

  /** As {@link IndexQueries.candidates}, with all that is known of uses now; none when nothing may be deleted. */
  async candidates(which: Wanted, usedBefore: number, now: number): Promise<IndexedLink[]> {
    if (!(await this.mayGoOn())) return [];
    return this.index.queries.candidates(which, this.#before(usedBefore), now);
  }

  /** Between two steps, with all that is known of uses by then. */
  async mayGoOn(): Promise<boolean> {
    await this.run.step();
    await this.#renew();
    return !this.#blind && (await this.run.mayDelete());
  }

  /** All that neither a tag nor a manifest leads to, and then what only that referred to. */
  async unlinkUntagged(usedBefore: number): Promise<void> {
    for (const page of this.index.queries.untagged(this.#before(usedBefore))) {
      await loopTurn();
      if (page.length === 0) continue;
      if (!(await this.mayGoOn())) return;
      for (const link of page) await this.#unlinkAll(link, this.#before(usedBefore), 'untagged');
    }
  }

  /** Tags of what came since the look are not in the index. */
  #before(usedBefore: number): number {
    return Math.min(usedBefore, this.lookedAt);
  }

  /** A few at a time, none of which depends on another. Returns the bytes that nothing needs any more. */
  async unlink(links: readonly IndexedLink[], why: RemovalReason): Promise<number> {
    const taken = await mapAtOnce(links, atOnce, this.run.signal, (link) =>
      this.#tolerance.attempt(`${link.repository}@${link.digest}`, () => this.#takeAway(link)),
    );
    let freed = 0;
    for (const [n, link] of links.entries()) {
      const end = taken[n];
      if (end === undefined) this.index.holdLink(link);
      const tags = end?.value;
      if (tags === undefined) continue;
      const { kind, repository, digest } = link;
      await this.#tellTags(tags, why);
      this.#tell({ what: kind, repository, reference: digest, bytes: 0, why });
      freed += await inPortions(this.index.removeLink(link), this.run.signal);
    }
    this.freedBytes += freed;
    return freed;
  }

  async removeTag(tag: IndexedTag, why: RemovalReason): Promise<void> {
    const name = `${tag.repository}:${tag.tag}`;
    const end = await this.#tolerance.attempt(name, () => this.#deleteTag(tag));
    if (end?.value === 'deleted') this.#tellTag(tag, why);
  }

  /** A tag, or a manifest with all its tags, or all of a repository; then whatever only that referred to. */
  async purge(repository: Repository, reference: Tag | Digest | undefined): Promise<void> {
    await this.#renew();
    const digest = reference === undefined ? undefined : parseDigest(reference);
    const now = this.parts.clock.seconds;
    if (reference === undefined) return this.#purgeRepository(repository, now);
    let root = digest;
    if (digest === undefined) {
      const tag = this.index.queries.tagOf(repository, reference as Tag);
      if (tag === undefined) return;
      await this.removeTag(tag, 'purged');
      const link = this.index.queries.find('manifest', repository, tag.digest);
      root = link !== undefined && this.index.queries.tagsOf(link).length === 0 ? tag.digest : undefined;
    }
    const link = root && this.index.queries.find('manifest', repository, root);
    if (link !== undefined) await this.#unlinkAll(link, now, 'purged');
  }

  async #purgeRepository(repository: Repository, now: number): Promise<void> {
    const { queries } = this.index;
    let after = '';
    for (
      let tags = queries.tagsIn(repository, after);
      tags.length > 0;
      tags = queries.tagsIn(repository, after)
    ) {
      for (const tag of tags) await this.removeTag(tag, 'purged');
      after = tags.at(-1)?.tag ?? after;
    }
    for (const kind of ['manifest', 'layer'] as const) {
      for (let from = 0; ;) {
        if (!(await this.mayGoOn())) return;
        const page = queries.linksIn(kind, repository, from);
        const last = page.at(-1);
        if (last === undefined) break;
        from = last.contentId;
        for (const link of page) if (link.effective <= now) await this.#unlinkAll(link, now, 'purged');
      }
    }
  }

  /** Content that was hidden and last written no later than these times, in seconds by the storage's clock. */
  async deleteHidden(hiddenBy: number, writtenBy: number): Promise<void> {
    if (this.index.incomplete) return; // it may have links that were not listed
    for (const batch of this.index.queries.deletable(hiddenBy, writtenBy)) {
      await loopTurn();
      if (!(await this.mayGoOn())) return;
      for (let from = 0; from < batch.length; from += atOnce) {
        if (!(await this.run.mayDelete())) return;
        await this.#deleteTogether(batch.slice(from, from + atOnce), hiddenBy, writtenBy);
        this.run.signal.throwIfAborted();
      }
    }
  }

  /** If a deletion fails, the run fails after all of them have ended. */
  async #deleteTogether(blobs: readonly IndexedBlob[], hiddenBy: number, writtenBy: number): Promise<void> {
    const ends = await Promise.allSettled(blobs.map((blob) => this.#attempt(blob, hiddenBy, writtenBy)));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  async #attempt(blob: IndexedBlob, hiddenBy: number, writtenBy: number): Promise<void> {
    const end = await this.#tolerance.attempt(blob.digest, () => this.#delete(blob, hiddenBy, writtenBy));
    if (end === undefined) this.index.hideAgain(blob, this.parts.clock.seconds);
  }

  async #delete(blob: IndexedBlob, hiddenBy: number, writtenBy: number): Promise<void> {
    if (!this.run.dryRun) {
      await this.#learn();
      if ((this.index.queries.hiddenAt(blob) ?? Infinity) > hiddenBy) return;
      if (!(await this.parts.removal.delete(blob.digest, writtenBy * 1000))) {
        this.index.hideAgain(blob, this.parts.clock.seconds);
        return;
      }
    }
    this.#tellDeleted(blob);
  }

  #tellDeleted(blob: IndexedBlob): void {
    const { digest, size } = blob;
    this.index.removeBlob(blob);
    this.#count('bytes', size);
    this.#tell({ what: 'blob', repository: undefined, reference: digest, bytes: size, why: 'unreferenced' });
  }

  /** A link that no manifest of its repository refers to, then what only it referred to, and so on. */
  async #unlinkAll(link: IndexedLink, usedBefore: number, why: RemovalReason): Promise<void> {
    // Each manifest comes in once at most: when the last one that refers to it is gone.
    const waiting = [link.contentId];
    const { queries } = this.index;
    const { kind, repositoryId } = link;
    for (let contentId = waiting.pop(); contentId !== undefined; contentId = waiting.pop()) {
      const next = contentId === link.contentId ? kind : 'manifest';
      const found = queries.linkOf({ kind: next, repositoryId, contentId });
      if (found === undefined || found.parents > 0) continue;
      await this.unlink([found], why);
      if (queries.linkOf(found) !== undefined) continue; // it stays
      for (const page of queries.orphanedBy(found, usedBefore)) {
        await this.run.step();
        if (!(await this.run.mayDelete())) return;
        waiting.push(...page.filter((each) => each.kind === 'manifest').map((each) => each.contentId));
        await this.unlink(
          page.filter((each) => each.kind === 'layer'),
          why,
        );
      }
    }
  }

  async #deleteTag(indexed: IndexedTag): Promise<'deleted' | 'elsewhere' | 'kept'> {
    const { repositories, deletes, cluster } = this.parts;
    const { repository, tag, digest } = indexed;
    if (!(await this.run.mayDelete())) return 'kept';
    this.index.removeTag(indexed);
    if ((await repositories.readTag(repository, tag)) !== digest) return 'elsewhere';
    if (!this.run.dryRun) {
      await deletes.deleteTag(repository, tag);
      cluster.tags.drop(`${repository}:${tag}`);
    }
    return 'deleted';
  }

  /** The tags that went with it; `undefined`: it stays, because it is used meanwhile. */
  async #takeAway(link: IndexedLink): Promise<readonly IndexedTag[] | undefined> {
    if (!(await this.#mayGo(link))) return undefined;
    const tags: IndexedTag[] = [];
    let kept = false;
    let pointed = false;
    for (const pointing of this.#tagPages(link)) {
      pointed = true;
      for (const tag of pointing) {
        const end = await this.#deleteTag(tag);
        if (end === 'deleted') tags.push(tag);
        kept ||= end === 'kept';
      }
      await loopTurn();
    }
    const still = !pointed || (!kept && (await this.#mayGo(link))); // tags take their time
    if (still && (await this.#unlinkUnlessUsed(link))) return tags;
    await this.#putBack(link, tags);
    return undefined;
  }

  *#tagPages(link: IndexedLink): Generator<readonly IndexedTag[]> {
    if (link.kind === 'layer') return;
    const { queries } = this.index;
    for (let page = queries.tagsOf(link); page.length > 0; page = queries.tagsOf(link, page.at(-1)?.tag)) {
      yield page;
    }
  }

  async #mayGo(link: IndexedLink): Promise<boolean> {
    await this.#learn();
    return (await this.run.mayDelete()) && !this.#usedSince(link);
  }

  /** `false`: somebody used it at that moment. */
  async #unlinkUnlessUsed(link: IndexedLink): Promise<boolean> {
    if (this.run.dryRun) return true;
    const { kind, repository, digest } = link;
    const { deletes, cluster } = this.parts;
    // Before, so that replicas stop using it; after, because a replica may have seen the link just now.
    cluster.descriptors.drop(`${repository}@${digest}`);
    await (kind === 'manifest'
      ? deletes.unlinkManifest(repository, digest)
      : deletes.unlinkLayer(repository, digest));
    cluster.descriptors.drop(`${repository}@${digest}`);
    await this.#learn();
    return !this.#usedSince(link);
  }

  /** Somebody was given it while it was being unlinked: it stays, with its tags. */
  async #putBack({ kind, repository, digest }: IndexedLink, tags: readonly IndexedTag[]): Promise<void> {
    if (this.run.dryRun) return;
    const { repositories } = this.parts;
    if (kind === 'layer') {
      await repositories.linkLayer(repository, digest);
      return;
    }
    await repositories.linkManifest(repository, digest);
    for (const { tag } of tags) {
      if ((await repositories.readTag(repository, tag)) === undefined) {
        await repositories.writeTag(repository, tag, digest);
      }
    }
  }

  #usedSince({ kind, repository, digest, effective }: IndexedLink): boolean {
    return (this.index.queries.find(kind, repository, digest)?.effective ?? effective) > effective;
  }

  /** All uses that are known of by now; those that were written before are in the index. */
  async #renew(): Promise<void> {
    await this.#learn();
    if (this.run.dryRun || performance.now() - this.#notedAt < notedEveryMs) return;
    this.#notedAt = performance.now();
    const { signal } = this.run;
    const since = (this.lookedAt - longestSkew) * 1000;
    const skip = async ({ record, error }: UnknownUses): Promise<void> => {
      this.#blind = true;
      await this.#tolerance.report(record, error);
    };
    for await (const page of this.parts.usage.noted(signal, skip, since)) {
      await this.#renewAll(page.map((use) => notAfter(use, this.parts.clock.seconds)));
      await loopTurn(); // many pages come from one record
    }
    const report = (record: string, error: Error): Promise<void> => this.#tolerance.report(record, error);
    for await (const page of this.parts.inUse.images(signal, report)) {
      await inPortions(this.index.renew(this.#runningIn(page)), signal);
      await loopTurn();
    }
  }

  /** An image that came only after the index was filled and runs was pulled, which is a use of its own. */
  #runningIn(page: readonly InUse[]): Use[] {
    return page
      .map((image) => this.index.useOf(image, this.parts.clock.seconds))
      .filter((use) => use !== undefined)
      .filter(
        ({ repository, digest }) => this.index.queries.find('manifest', repository, digest) !== undefined,
      );
  }

  /** Uses in this process until now. A caller that comes meanwhile waits for all that were noted before. */
  #learn(): Promise<void> {
    this.#learning = this.#learning.then(() => this.#learnNoted());
    return this.#learning;
  }

  async #learnNoted(): Promise<void> {
    while (this.#uses.size > 0) {
      const uses = [...this.#uses.values()];
      this.#uses.clear();
      await this.#renewAll(uses);
    }
  }

  async #renewAll(uses: readonly Use[]): Promise<void> {
    const { blobs, repositories } = this.parts;
    const { signal } = this.run;
    for (const use of await inPortions(this.index.renew(uses), signal)) {
      const learnt = await this.#tolerance.attempt(`${use.repository}@${use.digest}`, () =>
        learnLate(this.index, use, blobs, repositories, signal),
      );
      // Other manifests of that repository may not be known.
      const held = learnt === undefined || this.index.incomplete;
      if (held) await inPortions(this.index.hold(use.repository), signal);
    }
  }

  async #tellTags(tags: readonly IndexedTag[], why: RemovalReason): Promise<void> {
    for (const [n, tag] of tags.entries()) {
      this.#tellTag(tag, why);
      if (n % pageLength === pageLength - 1) await loopTurn();
    }
  }

  #tellTag({ repository, tag }: IndexedTag, why: RemovalReason): void {
    this.#tell({ what: 'tag', repository, reference: tag, bytes: 0, why });
  }

  #tell(removal: Removal): void {
    this.#count(`${removal.what}s`, 1);
    this.run.removed(removal);
  }

  #count(name: string, by: number): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + by);
  }
}
