import { parseDigest, type Digest } from '../oci/digest.js';
import type { Reference } from '../oci/manifest.js';
import type { Repository } from '../oci/name.js';
import type { StoredBlob, StoredLink } from '../storage/storage.js';
import type { InUse, Use } from '../usage/usage.js';
import {
  held,
  layer,
  manifest,
  noManifest,
  references as referencesKnown,
  unreadable,
  type IndexDatabase,
} from './index-database.js';
import { IndexQueries, type IndexedBlob, type IndexedLink, type IndexedTag } from './index-queries.js';

/**
 * Stored content and the references between it, in a scratch file: memory stays bounded whatever the store holds.
 * Methods that may take long are generators: they yield after each few milliseconds, so that requests are answered in
 * between. Content comes from strangers, so walks along references keep their way in a list and not on the call stack.
 */
export class ContentIndex implements Disposable {
  readonly queries: IndexQueries;
  blobs = 0;
  bytes = 0;
  /** Links may be missing that could not be listed: nothing is known to be without one. */
  incomplete = false;
  /** Repositories may be missing that could not be listed. */
  missesRepositories = false;

  constructor(private readonly database: IndexDatabase) {
    this.queries = new IndexQueries(database);
  }

  [Symbol.dispose](): void {
    this.database[Symbol.dispose]();
  }

  /** Forgets everything but the references of manifests, which never change. */
  clear(): Generator<void> {
    this.blobs = 0;
    this.bytes = 0;
    this.incomplete = false;
    this.missesRepositories = false;
    return this.database.portions(this.#clear());
  }

  *#clear(): Generator<void> {
    for (const table of ['link', 'tag', 'repository']) {
      this.database.run(`DELETE FROM ${table}`); // without a condition SQLite frees whole pages
      yield;
    }
    for (const [from, to] of this.#contentSlices()) {
      this.database.run(
        `UPDATE content SET size = NULL, modified = NULL, kept = 0, hidden = NULL,
         known = CASE known WHEN ${referencesKnown} THEN known ELSE 0 END WHERE id BETWEEN ? AND ?`,
        from,
        to,
      );
      yield;
    }
  }

  addBlobs(page: readonly StoredBlob[]): void {
    this.database.together(() => {
      for (const { digest, size, modifiedMs } of page) {
        this.database.run(
          `INSERT INTO content(digest, size, modified) VALUES (?, ?, ?)
           ON CONFLICT(digest) DO UPDATE SET size = excluded.size, modified = excluded.modified`,
          digest,
          size,
          Math.ceil(modifiedMs / 1000),
        );
        this.blobs += 1;
        this.bytes += size;
      }
    });
  }

  addLinks(page: readonly StoredLink[], ttlOf: (repository: Repository) => number): Generator<void> {
    return this.database.portions(this.#addLinks(page, ttlOf));
  }

  *#addLinks(page: readonly StoredLink[], ttlOf: (repository: Repository) => number): Generator<void> {
    for (const link of page) {
      const repository = this.#repositoryId(link.repository, ttlOf);
      const content = this.#contentId(link.digest);
      if (link.kind === 'tag') {
        this.database.run('INSERT OR REPLACE INTO tag VALUES (?, ?, ?)', repository, link.tag, content);
      } else {
        this.database.run(
          `INSERT OR IGNORE INTO link(kind, repository, content, ttl)
           VALUES (?1, ?2, ?3, (SELECT ttl FROM repository WHERE id = ?2))`,
          link.kind === 'layer' ? layer : manifest,
          repository,
          content,
        );
        if (link.kind === 'manifest') this.#want(content);
      }
      yield;
    }
  }

  /** The references of a manifest that was read. */
  addReferences(
    parent: number,
    type: string,
    references: readonly Pick<Reference, 'digest' | 'kind'>[],
  ): Generator<void> {
    return this.database.portions(this.#addReferences(parent, type, references));
  }

  *#addReferences(
    parent: number,
    type: string,
    references: readonly Pick<Reference, 'digest' | 'kind'>[],
  ): Generator<void> {
    for (const { digest, kind } of references) {
      const child = this.#contentId(digest);
      if (child === parent) continue;
      this.database.run('INSERT OR IGNORE INTO reference VALUES (?, ?)', parent, child);
      if (kind === 'manifest') this.#want(child);
      yield;
    }
    this.database.run('UPDATE content SET known = ?, type = ? WHERE id = ?', referencesKnown, type, parent);
  }

  /** It was read, and names nothing. */
  markNoManifest(content: number): void {
    this.database.run('UPDATE content SET known = ? WHERE id = ?', noManifest, content);
  }

  /** It cannot be read, so that all content of the repositories that link it may be its own: that is held. */
  markUnreadable(content: number): Generator<void> {
    return this.database.portions(this.#markUnreadable(content));
  }

  *#markUnreadable(content: number): Generator<void> {
    this.database.run('UPDATE content SET known = ? WHERE id = ?', unreadable, content);
    for (let after = 0; ;) {
      const found = this.queries.linkingAsManifest(content, after);
      if (found === undefined) return;
      yield* this.#hold(found.name);
      after = found.id;
    }
  }

  #want(content: number): void {
    this.database.run('UPDATE content SET wanted = 1 WHERE id = ? AND wanted = 0', content);
  }

  /** The uses of content whose digits begin like this are not all known: some may have been at this second. */
  countAsUsed(prefix: string, at: number): Generator<void> {
    return this.database.portions(this.#countAsUsed(prefix, at));
  }

  *#countAsUsed(prefix: string, at: number): Generator<void> {
    for (const contents of this.queries.contents(prefix)) {
      for (const { id } of contents) {
        this.database.run(
          `UPDATE link SET used = max(coalesce(used, 0), ?) WHERE content = ? AND kind IN (${layer}, ${manifest})`,
          at,
          id,
        );
        yield;
      }
    }
  }

  /** Uses that are later than what is known. Those of what is not linked count for hidden content. */
  addUses(page: readonly Use[]): void {
    this.database.together(() => {
      for (const { repository, digest, at } of page) {
        this.database.run(
          `UPDATE link SET used = max(coalesce(used, 0), ?1) WHERE kind IN (${layer}, ${manifest})
           AND repository = (SELECT id FROM repository WHERE name = ?2)
           AND content = (SELECT id FROM content WHERE digest = ?3)`,
          at,
          repository,
          digest,
        );
      }
    });
  }

  /** What runs somewhere is used now. */
  addInUse(page: readonly InUse[], now: number): void {
    const uses = page.map((image) => this.useOf(image, now)).filter((use) => use !== undefined);
    this.addUses(uses);
  }

  /** A tag stands for what it points to here; `undefined`: to nothing. */
  useOf({ repository, reference }: InUse, at: number): Use | undefined {
    const digest = parseDigest(reference) ?? this.queries.tagged(repository, reference);
    return digest && { repository, digest, at };
  }

  /**
   * The same once the index is settled: the references of a used manifest count as used, too. Returns the uses of
   * content that the index does not know in that repository.
   */
  renew(uses: readonly Use[]): Generator<void, Use[]> {
    return this.database.portions(this.#renew(uses));
  }

  *#renew(uses: readonly Use[]): Generator<void, Use[]> {
    const unknown: Use[] = [];
    for (const use of uses) {
      const { repository, digest, at } = use;
      const ids = this.database.get(
        'SELECT r.id AS r, c.id AS c FROM repository r, content c WHERE r.name = ? AND c.digest = ?',
        repository,
        digest,
      );
      const links =
        ids === undefined
          ? 0
          : this.database.changes(
              `UPDATE link SET used = max(used, ?) WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
              at,
              Number(ids['r']),
              Number(ids['c']),
            );
      if (links === 0) unknown.push(use);
      else yield* this.#raise(Number(ids?.['r']), Number(ids?.['c']), at);
      this.database.run(
        'UPDATE content SET hidden = max(hidden, ?) WHERE digest = ? AND hidden IS NOT NULL',
        at,
        digest,
      );
      yield;
    }
    return unknown;
  }

  /** A link that came after the index was settled, with what it refers to, if it is a manifest. */
  learn(
    link: StoredLink & { readonly kind: 'layer' | 'manifest' },
    at: number,
    children: readonly Reference[],
  ): Generator<void> {
    return this.database.portions(this.#learn(link, at, children));
  }

  *#learn(
    link: StoredLink & { readonly kind: 'layer' | 'manifest' },
    at: number,
    children: readonly Reference[],
  ): Generator<void> {
    yield* this.#addLinks([link], () => 0);
    const repository = this.#repositoryId(link.repository, () => 0);
    const content = this.#contentId(link.digest);
    for (const { digest } of children) {
      this.database.run('INSERT OR IGNORE INTO reference VALUES (?, ?)', content, this.#contentId(digest));
      yield;
    }
    yield* this.#keep(content);
    let parents = 0;
    for (const linked of this.queries.linkedParents(content, repository)) {
      parents += linked;
      yield;
    }
    this.database.run(
      `UPDATE link SET used = ?1, effective = ?1, parents = ?2 WHERE kind = ?3 AND repository = ?4 AND content = ?5`,
      at,
      parents,
      link.kind === 'layer' ? layer : manifest,
      repository,
      content,
    );
    if (link.kind === 'layer') return;
    for (const child of this.#children(content)) {
      this.#addParent(repository, child);
      yield* this.#raise(repository, child, at);
    }
  }

  /** All links of this repository, those that come later too, stay in this run. */
  hold(repository: Repository): Generator<void> {
    return this.database.portions(this.#hold(repository));
  }

  *#hold(name: Repository): Generator<void> {
    const repository = this.#repositoryId(name, () => 0);
    this.database.run('UPDATE repository SET ttl = ? WHERE id = ?', held, repository);
    yield;
    for (const kind of [layer, manifest]) {
      for (let after = 0; ;) {
        const rows = this.database.all(
          'SELECT content FROM link WHERE kind = ? AND repository = ? AND content > ? ORDER BY content LIMIT 100',
          kind,
          repository,
          after,
        );
        const last = rows.at(-1)?.['content'];
        if (last === undefined) break;
        this.database.run(
          'UPDATE link SET ttl = ? WHERE kind = ? AND repository = ? AND content > ? AND content <= ?',
          held,
          kind,
          repository,
          after,
          last,
        );
        after = Number(last);
        yield;
      }
    }
  }

  /** This link stays in this run. */
  holdLink({ kind, repositoryId, contentId }: IndexedLink): void {
    this.database.run(
      'UPDATE link SET ttl = ? WHERE kind = ? AND repository = ? AND content = ?',
      held,
      kind === 'layer' ? layer : manifest,
      repositoryId,
      contentId,
    );
  }

  /** Works out `effective`, `parents` and `kept`. Unknown use counts as now. */
  settle(now: number): Generator<void> {
    return this.database.portions(this.#settle(now));
  }

  *#settle(now: number): Generator<void> {
    for (const rows of this.queries.linkIds()) {
      for (const { kind, repository, content } of rows) {
        this.database.run(
          `UPDATE link SET used = coalesce(used, ?1), effective = coalesce(used, ?1)
           WHERE kind = ?2 AND repository = ?3 AND content = ?4`,
          now,
          kind,
          repository,
          content,
        );
        yield* this.#keep(content);
        yield;
      }
    }
    for (const rows of this.queries.linkIds(manifest)) {
      for (const { repository, content } of rows) {
        for (const child of this.#children(content)) {
          this.#addParent(repository, child);
          yield;
        }
        yield; // also after manifests that name nothing
      }
    }
    // In this order each link is raised once at most, however manifests refer to one another.
    for (const rows of this.queries.manifestsByUse()) {
      for (const { repository, content, used, effective } of rows) {
        // Otherwise a later use raised it, and what it refers to as well.
        if (effective === used) yield* this.#raiseChildren(repository, content, used);
        yield;
      }
    }
  }

  /** Works out anew what is kept, after links went; since when the rest is hidden is `now` where it was kept. */
  settleHidden(now: number): Generator<void> {
    return this.database.portions(this.#settleHidden(now));
  }

  *#settleHidden(now: number): Generator<void> {
    for (const [from, to] of this.#contentSlices()) {
      this.database.run('UPDATE content SET kept = 0 WHERE id BETWEEN ? AND ?', from, to);
      yield;
    }
    for (const rows of this.queries.linkIds()) {
      for (const { content } of rows) {
        yield* this.#keep(content);
        yield;
      }
    }
    for (const [from, to] of this.#contentSlices()) {
      this.database.run(
        `UPDATE content SET hidden = CASE WHEN kept = 1 OR size IS NULL THEN NULL ELSE coalesce(hidden, ?) END
         WHERE id BETWEEN ? AND ?`,
        this.incomplete ? null : now,
        from,
        to,
      );
      yield;
    }
  }

  removeTag({ repositoryId, tag }: IndexedTag): void {
    this.database.run('DELETE FROM tag WHERE repository = ? AND name = ?', repositoryId, tag);
  }

  /** Returns the bytes that nothing needs any more without it. */
  removeLink(link: IndexedLink): Generator<void, number> {
    return this.database.portions(this.#removeLink(link));
  }

  *#removeLink({ kind, repositoryId, contentId }: IndexedLink): Generator<void, number> {
    this.database.run(
      'DELETE FROM link WHERE kind = ? AND repository = ? AND content = ?',
      kind === 'layer' ? layer : manifest,
      repositoryId,
      contentId,
    );
    if (kind === 'manifest') {
      for (const child of this.#children(contentId)) {
        this.database.run(
          `UPDATE link SET parents = parents - 1 WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
          repositoryId,
          child,
        );
        yield;
      }
    }
    const unlinked = this.database.get(
      `SELECT size FROM content c WHERE id = ? AND size IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM link WHERE content = c.id)`,
      contentId,
    );
    if (unlinked === undefined) return 0;
    for (const linked of this.queries.linkedParents(contentId)) {
      if (linked > 0) return 0;
      yield;
    }
    return Number(unlinked['size']);
  }

  /** When what nobody needs was found to be so, as it was written down. `false`: somebody needs some of it again. */
  addHidden(page: readonly { readonly at: number; readonly digest: Digest }[]): boolean {
    let hidden = 0;
    this.database.together(() => {
      for (const { at, digest } of page) {
        hidden += this.database.changes(
          'UPDATE content SET hidden = ? WHERE digest = ? AND size IS NOT NULL AND kept = 0',
          at,
          digest,
        );
      }
    });
    return hidden === page.length;
  }

  /** It is to stay for the time being. */
  hideAgain({ contentId }: IndexedBlob, now: number): void {
    this.database.run('UPDATE content SET hidden = ? WHERE id = ?', now, contentId);
  }

  removeBlob({ contentId, size }: IndexedBlob): void {
    this.database.run('UPDATE content SET size = NULL, hidden = NULL WHERE id = ?', contentId);
    this.blobs -= 1;
    this.bytes -= size;
  }

  #repositoryId(name: Repository, ttlOf: (repository: Repository) => number): number {
    const known = this.database.get('SELECT id FROM repository WHERE name = ?', name);
    if (known !== undefined) return Number(known['id']);
    return this.database.run(
      'INSERT INTO repository(name, ttl) VALUES (?, ?)',
      name,
      Math.ceil(ttlOf(name) / 1000),
    );
  }

  #contentId(digest: Digest): number {
    const known = this.database.get('SELECT id FROM content WHERE digest = ?', digest);
    return known === undefined
      ? this.database.run('INSERT INTO content(digest) VALUES (?)', digest)
      : Number(known['id']);
  }

  *#keep(content: number): Generator<void> {
    yield* this.#walk(
      content,
      (each) =>
        this.database.changes('UPDATE content SET kept = 1, hidden = NULL WHERE id = ? AND kept = 0', each) >
        0,
    );
  }

  *#raise(repository: number, content: number, at: number): Generator<void> {
    yield* this.#walk(
      content,
      (each) =>
        this.database.changes(
          `UPDATE link SET effective = ?1 WHERE kind IN (${layer}, ${manifest}) AND repository = ?2 AND content = ?3
           AND coalesce(effective, 0) < ?1`,
          at,
          repository,
          each,
        ) > 0,
    );
  }

  *#raiseChildren(repository: number, content: number, at: number): Generator<void> {
    for (const child of this.#children(content)) {
      yield* this.#raise(repository, child, at);
      yield;
    }
  }

  #addParent(repository: number, child: number): void {
    this.database.run(
      `UPDATE link SET parents = parents + 1 WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
      repository,
      child,
    );
  }

  /** Goes from content to its references, and on from those, as long as `isNew` says that it was not there before. */
  *#walk(from: number, isNew: (content: number) => boolean): Generator<void> {
    if (!isNew(from)) return;
    const way = [this.#children(from)];
    for (let last = way.at(-1); last !== undefined; last = way.at(-1)) {
      const next = last.next();
      if (next.done === true) way.pop();
      else if (isNew(next.value)) way.push(this.#children(next.value));
      yield;
    }
  }

  *#children(content: number): Generator<number, void> {
    for (let after = 0; ;) {
      const rows = this.database.all(
        'SELECT child FROM reference WHERE parent = ? AND child > ? ORDER BY child LIMIT 100',
        content,
        after,
      );
      for (const { child } of rows) yield Number(child);
      if (rows.length < 100) return;
      after = Number(rows.at(-1)?.['child']);
    }
  }

  *#contentSlices(): Generator<readonly [from: number, to: number]> {
    const last = Number(this.database.get('SELECT max(id) AS last FROM content')?.['last'] ?? 0);
    for (let from = 1; from <= last; from += 500) yield [from, from + 499];
  }
}
