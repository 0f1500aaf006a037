import { parseDigest, type Digest } from '../oci/digest.js';
import type { Reference } from '../oci/manifest.js';
import type { Repository } from '../oci/name.js';
import type { StoredBlob, StoredLink } from '../storage/storage.js';
import type { InUse, Use } from '../usage/usage.js';
import { layer, manifest, type IndexDatabase } from './index-database.js';
import { IndexQueries, type IndexedBlob, type IndexedLink, type IndexedTag } from './index-queries.js';

/**
 * What is stored and who refers to what, in a scratch file: memory stays bounded whatever the store holds. Every
 * method works on little at a time, so that requests are answered in between.
 */
export class ContentIndex implements Disposable {
  readonly queries: IndexQueries;
  blobs = 0;
  bytes = 0;

  constructor(private readonly database: IndexDatabase) {
    this.queries = new IndexQueries(database);
  }

  [Symbol.dispose](): void {
    this.database[Symbol.dispose]();
  }

  /** Forgets all but what manifests refer to, which never changes. Yields between small portions of the work. */
  *clear(): Generator<void> {
    for (const table of ['link', 'tag', 'repository']) this.database.run(`DELETE FROM ${table}`);
    this.blobs = 0;
    this.bytes = 0;
    for (const [from, to] of this.#contentSlices()) {
      yield;
      this.database.run(
        'UPDATE content SET size = NULL, modified = NULL, kept = 0, hidden = NULL WHERE id BETWEEN ? AND ?',
        from,
        to,
      );
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

  addLinks(page: readonly StoredLink[], ttlOf: (repository: Repository) => number): void {
    this.database.together(() => {
      for (const link of page) {
        const repository = this.#repositoryId(link.repository, ttlOf);
        const content = this.#contentId(link.digest);
        if (link.kind === 'tag') {
          this.database.run('INSERT OR REPLACE INTO tag VALUES (?, ?, ?)', repository, link.tag, content);
        } else {
          const kind = link.kind === 'layer' ? layer : manifest;
          this.database.run(
            'INSERT OR IGNORE INTO link(kind, repository, content) VALUES (?, ?, ?)',
            kind,
            repository,
            content,
          );
        }
      }
    });
  }

  /** What a manifest refers to. Returns stored manifests among that which no repository links, and nobody has read. */
  addReferences(
    parent: number,
    type: string,
    references: readonly Reference[],
    limit: number,
  ): IndexedBlob[] {
    const unread: IndexedBlob[] = [];
    this.database.together(() => {
      for (const { digest, kind } of references) {
        const child = this.#contentId(digest);
        if (child === parent) continue;
        this.database.run('INSERT OR IGNORE INTO reference VALUES (?, ?)', parent, child);
        if (kind !== 'manifest') continue;
        const found = this.database.get(
          `SELECT size FROM content WHERE id = ? AND known = 0 AND size <= ?
           AND NOT EXISTS (SELECT 1 FROM link WHERE content = ? AND kind = ${manifest})`,
          child,
          limit,
          child,
        );
        if (found !== undefined) unread.push({ digest, size: Number(found['size']), contentId: child });
      }
      this.database.run('UPDATE content SET known = 1, type = ? WHERE id = ?', type, parent);
    });
    return unread;
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
   * The same once the index is settled: what the used manifests refer to counts as used, too. `false`: nothing is
   * known of it in that repository.
   */
  renew({ repository, digest, at }: Use): boolean {
    let known = false;
    const ids = this.database.get(
      'SELECT r.id AS r, c.id AS c FROM repository r, content c WHERE r.name = ? AND c.digest = ?',
      repository,
      digest,
    );
    if (ids !== undefined) {
      const links = this.database.changes(
        `UPDATE link SET used = max(used, ?) WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
        at,
        Number(ids['r']),
        Number(ids['c']),
      );
      known = links > 0;
      this.#raise(Number(ids['r']), Number(ids['c']), at);
    }
    this.database.run(
      'UPDATE content SET hidden = max(hidden, ?) WHERE digest = ? AND hidden IS NOT NULL',
      at,
      digest,
    );
    return known;
  }

  /** A link that came after the index was settled, with what it refers to, if it is a manifest. */
  learn(
    link: StoredLink & { readonly kind: 'layer' | 'manifest' },
    at: number,
    children: readonly Reference[],
  ): void {
    this.addLinks([link], () => 0);
    const repository = this.#repositoryId(link.repository, () => 0);
    const content = this.#contentId(link.digest);
    this.rescue(link.digest, children);
    this.database.run(
      `UPDATE link SET used = ?1, effective = ?1, parents = (SELECT count(*) FROM reference f
       CROSS JOIN link p ON p.kind = ${manifest} AND p.repository = ?2 AND p.content = f.parent WHERE f.child = ?3)
       WHERE kind = ?4 AND repository = ?2 AND content = ?3`,
      at,
      repository,
      content,
      link.kind === 'layer' ? layer : manifest,
    );
    if (link.kind === 'layer') return;
    for (const child of this.#children(content)) this.#adopt(repository, child, at);
  }

  /** It is not hidden any more, nor is what it refers to. */
  rescue(digest: Digest, children: readonly Reference[]): void {
    const content = this.#contentId(digest);
    for (const { digest: child } of children) {
      this.database.run('INSERT OR IGNORE INTO reference VALUES (?, ?)', content, this.#contentId(child));
    }
    this.#keep(content);
  }

  /** Works out `effective` and `kept`. Unknown use counts as now. Yields between small portions of the work. */
  *settle(now: number): Generator<void> {
    for (const rows of this.queries.linkIds()) {
      this.database.together(() => {
        for (const { kind, repository, content } of rows) {
          this.database.run(
            `UPDATE link SET used = coalesce(used, ?1), effective = coalesce(used, ?1)
             WHERE kind = ?2 AND repository = ?3 AND content = ?4`,
            now,
            kind,
            repository,
            content,
          );
          this.#keep(content);
        }
      });
      yield;
    }
    for (const rows of this.queries.linkIds(manifest)) {
      this.database.together(() => {
        for (const { repository, content } of rows) {
          const effective = this.database.get(
            `SELECT effective FROM link WHERE kind = ${manifest} AND repository = ? AND content = ?`,
            repository,
            content,
          );
          for (const child of this.#children(content)) {
            this.#adopt(repository, child, Number(effective?.['effective']));
          }
        }
      });
      yield;
    }
  }

  /** Works out anew what is kept, after links went; since when the rest is hidden is `now` where it was kept. */
  *settleHidden(now: number): Generator<void> {
    for (const [from, to] of this.#contentSlices()) {
      this.database.run('UPDATE content SET kept = 0 WHERE id BETWEEN ? AND ?', from, to);
      yield;
    }
    for (const rows of this.queries.linkIds()) {
      this.database.together(() => {
        for (const { content } of rows) this.#keep(content);
      });
      yield;
    }
    for (const [from, to] of this.#contentSlices()) {
      this.database.run(
        `UPDATE content SET hidden = CASE WHEN kept = 1 OR size IS NULL THEN NULL ELSE coalesce(hidden, ?) END
         WHERE id BETWEEN ? AND ?`,
        now,
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
  removeLink({ kind, repositoryId, contentId }: IndexedLink): number {
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
      }
    }
    // CROSS JOIN is SQLite's word for "in this order": by its own guess it goes through all manifests.
    const freed = this.database.get(
      `SELECT size FROM content c WHERE id = ? AND size IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM link WHERE content = c.id)
       AND NOT EXISTS (SELECT 1 FROM reference f CROSS JOIN link p ON p.content = f.parent AND p.kind = ${manifest}
         WHERE f.child = c.id)`,
      contentId,
    );
    return Number(freed?.['size'] ?? 0);
  }

  /** When what nobody needs was found to be so, as it was written down. `false`: somebody needs some of it again. */
  addHidden(page: readonly (readonly [at: number, digest: Digest])[]): boolean {
    let hidden = 0;
    this.database.together(() => {
      for (const [at, digest] of page) {
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

  #keep(content: number): void {
    if (
      this.database.changes(
        'UPDATE content SET kept = 1, hidden = NULL WHERE id = ? AND kept = 0',
        content,
      ) === 0
    )
      return;
    for (const child of this.#children(content)) this.#keep(child);
  }

  #raise(repository: number, content: number, at: number): void {
    const raised = this.database.changes(
      `UPDATE link SET effective = ?1 WHERE kind IN (${layer}, ${manifest}) AND repository = ?2 AND content = ?3
       AND coalesce(effective, 0) < ?1`,
      at,
      repository,
      content,
    );
    if (raised === 0) return;
    for (const child of this.#children(content)) this.#raise(repository, child, at);
  }

  /** It has one parent more. */
  #adopt(repository: number, child: number, at: number): void {
    this.database.run(
      `UPDATE link SET parents = parents + 1 WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
      repository,
      child,
    );
    this.#raise(repository, child, at);
  }

  #children(content: number): number[] {
    return this.database
      .all('SELECT child FROM reference WHERE parent = ?', content)
      .map(({ child }) => Number(child));
  }

  *#contentSlices(): Generator<readonly [from: number, to: number]> {
    const last = Number(this.database.get('SELECT max(id) AS last FROM content')?.['last'] ?? 0);
    for (let from = 1; from <= last; from += 2_000) yield [from, from + 1_999];
  }
}
