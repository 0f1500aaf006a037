import { setImmediate as breathe } from 'node:timers/promises';
import type { Cluster } from '../cluster/cluster.js';
import { parseDigest, type Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { JobRun, JobSummary, Removal, RemovalReason } from '../scheduler/job.js';
import { mapAtOnce } from '../storage/pages.js';
import type { Deletion, Rescues } from '../storage/rescues.js';
import type { BlobStore, Deletes, RepositoryStore } from '../storage/storage.js';
import type { InUse, InUseHistory, Use, UsageHistory } from '../usage/usage.js';
import type { ContentIndex } from './content-index.js';
import type { IndexedBlob, IndexedLink, IndexedTag, Wanted } from './index-queries.js';
import { learnLate, rescue } from './look-through.js';

/** What other replicas have noted is read again this often; they write it down about as often. */
const notedEveryMs = 30_000;
/**
 * In seconds. What was noted so long before a look began, the look has seen, also when another replica's clock is
 * wrong; a shorter grace says how far clocks may differ.
 */
export const longestSkew = 10 * 60;
/** Removals that are under way at the same time. */
export const atOnce = 8;

export interface RemovalParts {
  readonly deletes: Deletes;
  readonly blobs: BlobStore;
  readonly repositories: RepositoryStore;
  readonly rescues: Rescues;
  readonly usage: UsageHistory;
  readonly inUse: Pick<InUseHistory, 'images'>;
  readonly cluster: Pick<Cluster, 'coordinator' | 'descriptors' | 'tags'>;
  /** Whether this process is fetching it right now. */
  readonly transferring: (digest: Digest) => boolean;
  /** Milliseconds since 1970. */
  readonly now: () => number;
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
  readonly #rescued = new Set<Digest>();
  readonly #watching: Disposable;

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
      note({ repository, digest, at: this.#seconds() + 1 });
    });
    for (const use of parts.usage.unwritten()) note(use);
  }

  [Symbol.dispose](): void {
    this.#watching[Symbol.dispose]();
  }

  get counts(): JobSummary {
    return Object.fromEntries(this.#counts);
  }

  /** As {@link IndexQueries.candidates}, with all that is known of uses now; none when nothing may be deleted. */
  async candidates(which: Wanted, from: number, usedBefore: number, now: number): Promise<IndexedLink[]> {
    await this.run.step();
    await this.#renew();
    if (!(await this.run.mayDelete())) return [];
    // Tags of what came since are not in the index.
    return this.index.queries.candidates(which, from, Math.min(usedBefore, this.lookedAt), now);
  }

  /** A few at a time, none of which depends on another. Returns the bytes that nothing needs any more. */
  async unlink(links: readonly IndexedLink[], why: RemovalReason): Promise<number> {
    const taken = await mapAtOnce(links, atOnce, this.run.signal, (link) => this.#takeAway(link));
    let freed = 0;
    for (const [n, link] of links.entries()) {
      const tags = taken[n];
      if (tags === undefined) continue;
      const { kind, repository, digest } = link;
      for (const tag of tags) this.#tellTag(tag, why);
      this.#tell({ what: kind, repository, reference: digest, bytes: 0, why });
      freed += this.index.removeLink(link);
    }
    this.freedBytes += freed;
    return freed;
  }

  async removeTag(tag: IndexedTag, why: RemovalReason): Promise<void> {
    if ((await this.#deleteTag(tag)) === 'deleted') this.#tellTag(tag, why);
  }

  /** A tag, or a manifest with all its tags, or all of a repository; then whatever only that referred to. */
  async purge(repository: Repository, reference: Tag | Digest | undefined): Promise<void> {
    await this.#renew();
    const digest = reference === undefined ? undefined : parseDigest(reference);
    const now = this.#seconds();
    const tags = this.index.queries.tagsIn(repository);
    if (reference !== undefined && digest === undefined) {
      const tag = tags.find((each) => each.tag === reference);
      if (tag === undefined) return;
      await this.removeTag(tag, 'purged');
      const others = tags.some((each) => each !== tag && each.digest === tag.digest);
      if (!others) await this.#purgeAll(this.index.queries.find('manifest', repository, tag.digest), now);
      return;
    }
    if (digest !== undefined) {
      await this.#purgeAll(this.index.queries.find('manifest', repository, digest), now);
      return;
    }
    for (const tag of tags) await this.removeTag(tag, 'purged');
    const next = (): IndexedLink[] => this.index.queries.linksIn(repository, now);
    for (let page = next(); page.length > 0; page = next()) {
      await this.run.step();
      if (!(await this.run.mayDelete())) return;
      await this.unlink(page, 'purged');
    }
  }

  /** What was hidden, and written to the storage, no later than this. */
  async deleteHidden(hiddenBefore: number, modifiedBefore: number): Promise<void> {
    for (;;) {
      await this.run.step();
      await this.#renew();
      const batch = this.index.queries.deletable(hiddenBefore, modifiedBefore);
      if (batch.length === 0) return;
      for (let from = 0; from < batch.length; from += atOnce) {
        if (!(await this.run.mayDelete())) return;
        await this.#deleteTogether(batch.slice(from, from + atOnce), hiddenBefore);
        this.run.signal.throwIfAborted();
      }
    }
  }

  async #deleteTogether(blobs: readonly IndexedBlob[], hiddenBefore: number): Promise<void> {
    if (this.run.dryRun) {
      for (const blob of blobs) this.#tellDeleted(blob);
      return;
    }
    await using deletion = await this.parts.rescues.announceDeletion();
    await this.#learnRescues();
    // All have ended before the announcement is taken back.
    const ends = await Promise.allSettled(blobs.map((blob) => this.#delete(blob, hiddenBefore, deletion)));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  async #delete(blob: IndexedBlob, hiddenBefore: number, deletion: Deletion): Promise<void> {
    const { digest } = blob;
    const { cluster, deletes, transferring } = this.parts;
    const lease = transferring(digest) ? undefined : await cluster.coordinator.tryLead(`blob:${digest}`);
    if (lease === undefined) {
      // Somebody is fetching it, or deleting it.
      this.index.hideAgain(blob, this.#seconds());
      return;
    }
    try {
      await this.#learn();
      if ((this.index.queries.hiddenAt(blob) ?? Infinity) > hiddenBefore) return;
      if (!deletion.inTime()) {
        this.index.hideAgain(blob, this.#seconds());
        return;
      }
      await deletes.deleteBlob(digest);
    } finally {
      await lease.release(false);
    }
    this.#tellDeleted(blob);
  }

  #tellDeleted(blob: IndexedBlob): void {
    const { digest, size } = blob;
    this.index.removeBlob(blob);
    this.#count('bytes', size);
    this.#tell({ what: 'blob', repository: undefined, reference: digest, bytes: size, why: 'unreferenced' });
  }

  async #purgeAll(link: IndexedLink | undefined, usedBefore: number): Promise<void> {
    if (link === undefined || link.parents > 0) return;
    await this.unlink([link], 'purged');
    for (const child of this.index.queries.orphanedBy(link, usedBefore))
      await this.#purgeAll(child, usedBefore);
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
    const pointing = link.kind === 'manifest' ? this.index.queries.tagsOf(link) : [];
    const tags: IndexedTag[] = [];
    let kept = false;
    for (const tag of pointing) {
      const end = await this.#deleteTag(tag);
      if (end === 'deleted') tags.push(tag);
      kept ||= end === 'kept';
    }
    const still = pointing.length === 0 || (!kept && (await this.#mayGo(link))); // tags take their time
    if (still && (await this.#unlinkUnlessUsed(link))) return tags;
    await this.#putBack(link, tags);
    return undefined;
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
    const since = (this.lookedAt - longestSkew) * 1000;
    for await (const page of this.parts.usage.noted(this.run.signal, since)) {
      for (const use of page) await this.#renewOne(use);
      await breathe(); // many pages come from one record
    }
    for await (const page of this.parts.inUse.images(this.run.signal)) {
      for (const image of page) this.#renewRunning(image);
      await breathe();
    }
  }

  /** Whoever runs what came only after the index was filled has pulled it, which is a use of its own. */
  #renewRunning(image: InUse): void {
    const use = this.index.useOf(image, this.#seconds());
    if (use === undefined) return;
    const { repository, digest } = use;
    if (this.index.queries.find('manifest', repository, digest) !== undefined) this.index.renew(use);
  }

  /** Uses in this process until now. Whoever asks meanwhile waits for all that were noted before. */
  #learn(): Promise<void> {
    this.#learning = this.#learning.then(() => this.#learnNoted());
    return this.#learning;
  }

  async #learnNoted(): Promise<void> {
    while (this.#uses.size > 0) {
      const uses = [...this.#uses.values()];
      this.#uses.clear();
      for (const use of uses) await this.#renewOne(use);
    }
  }

  /** What other replicas have linked anew without fetching it, and what that refers to. */
  async #learnRescues(): Promise<void> {
    for (const digest of await this.parts.rescues.list()) {
      if (this.#rescued.has(digest)) continue;
      await rescue(this.index, digest, this.parts.blobs);
      this.#rescued.add(digest);
    }
  }

  async #renewOne(use: Use): Promise<void> {
    const { blobs, repositories } = this.parts;
    if (!this.index.renew(use)) await learnLate(this.index, use, blobs, repositories);
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

  #seconds(): number {
    return Math.floor(this.parts.now() / 1000);
  }
}
