import { rmSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import type { Descriptor } from '../oci/descriptor.js';
import type { Digest } from '../oci/digest.js';
import type { Reference } from '../oci/manifest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { StoredBlob, StoredLink } from '../storage/storage.js';
import type { Use } from '../usage/usage.js';

const layer = 0;
const manifest = 1;

/**
 * Times are seconds since 1970. `effective` is the last use of a link, its own or that of a manifest in the same
 * repository that refers to it; `parents` counts those manifests. `kept`: linked somewhere, or referred to by what is. `hidden`: since when it is not.
 */
const tables = `
  CREATE TABLE repository(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, ttl INTEGER NOT NULL);
  CREATE TABLE content(id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, size INTEGER, modified INTEGER,
    type TEXT, known INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 0, hidden INTEGER);
  CREATE INDEX content_hidden ON content(hidden, digest, size) WHERE hidden IS NOT NULL;
  CREATE TABLE link(kind INTEGER, repository INTEGER, content INTEGER, used INTEGER, effective INTEGER,
    parents INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(kind, repository, content)) WITHOUT ROWID;
  CREATE INDEX link_content ON link(content, kind);
  CREATE INDEX link_effective ON link(effective, kind);
  CREATE INDEX link_free ON link(effective, kind DESC) WHERE parents = 0;
  CREATE TABLE tag(repository INTEGER, name TEXT, content INTEGER, PRIMARY KEY(repository, name)) WITHOUT ROWID;
  CREATE INDEX tag_content ON tag(content, repository);
  CREATE TABLE reference(parent INTEGER, child INTEGER, PRIMARY KEY(parent, child)) WITHOUT ROWID;
  CREATE INDEX reference_child ON reference(child);
`;

/** Nothing of an unfinished index is worth keeping, and nobody else opens the file. */
const settings = `
  PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
  PRAGMA cache_size = -8192; PRAGMA temp_store = FILE;
`;

type Row = Record<string, SQLOutputValue>;

/** A link in the index. */
export interface IndexedLink {
  readonly kind: 'layer' | 'manifest';
  readonly repository: Repository;
  readonly digest: Digest;
  /** Seconds since 1970. */
  readonly effective: number;
  readonly repositoryId: number;
  readonly contentId: number;
  /** Manifests of the same repository that refer to it. */
  readonly parents: number;
}

export interface IndexedBlob {
  readonly digest: Digest;
  readonly size: number;
  readonly contentId: number;
}

export interface IndexedTag {
  readonly repository: Repository;
  readonly tag: Tag;
  readonly digest: Digest;
  readonly repositoryId: number;
}

/** Which links may go; see {@link ContentIndex.candidates}. */
export type Wanted = 'expired' | 'any' | 'untagged';

const untagged =
  'NOT EXISTS (SELECT 1 FROM tag t WHERE t.content = l.content AND t.repository = l.repository)';
const wanted: Readonly<Record<Wanted, string>> = {
  expired: 'r.ttl > 0 AND l.effective <= ?3 - r.ttl',
  any: '?3 > 0',
  untagged: `?3 > 0 AND ${untagged}`,
};
const linkColumns = `l.kind, l.repository AS repositoryId, l.content AS contentId, l.effective, l.parents,
  r.name AS repository, c.digest FROM link l JOIN repository r ON r.id = l.repository JOIN content c ON c.id = l.content`;

/**
 * What is stored and who refers to what, in a scratch file: memory stays bounded whatever the store holds. Every
 * method works on little at a time, so that requests are answered in between.
 */
export class ContentIndex implements Disposable {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  blobs = 0;
  bytes = 0;

  /** The file must not exist. */
  constructor(private readonly file: string) {
    this.#database = new DatabaseSync(file);
    this.#database.exec(settings + tables);
  }

  [Symbol.dispose](): void {
    this.#database.close();
    rmSync(this.file, { force: true });
  }

  /** Forgets all but what manifests refer to, which never changes. Yields between small portions of the work. */
  *clear(): Generator<void> {
    this.#database.exec('DELETE FROM link; DELETE FROM tag; DELETE FROM repository');
    this.blobs = 0;
    this.bytes = 0;
    for (const [from, to] of this.#contentSlices()) {
      yield;
      this.#run(
        'UPDATE content SET size = NULL, modified = NULL, kept = 0, hidden = NULL WHERE id BETWEEN ? AND ?',
        from,
        to,
      );
    }
  }

  addBlobs(page: readonly StoredBlob[]): void {
    this.#together(() => {
      for (const { digest, size, modifiedMs } of page) {
        this.#run(
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
    this.#together(() => {
      for (const link of page) {
        const repository = this.#repositoryId(link.repository, ttlOf);
        const content = this.#contentId(link.digest);
        if (link.kind === 'tag') {
          this.#run('INSERT OR REPLACE INTO tag VALUES (?, ?, ?)', repository, link.tag, content);
        } else {
          const kind = link.kind === 'layer' ? layer : manifest;
          this.#run(
            'INSERT OR IGNORE INTO link(kind, repository, content) VALUES (?, ?, ?)',
            kind,
            repository,
            content,
          );
        }
      }
    });
  }

  /** Stored manifests of at most `limit` bytes whose references are not known, after this link; a few of them. */
  unreadManifests(after: IndexedLink | undefined, limit: number): IndexedLink[] {
    return this.#links(
      `SELECT ${linkColumns} WHERE l.kind = ${manifest} AND (l.repository, l.content) > (?, ?)
       AND c.known = 0 AND c.size <= ? ORDER BY l.repository, l.content LIMIT 64`,
      after?.repositoryId ?? 0,
      after?.contentId ?? 0,
      limit,
    );
  }

  /** What a manifest refers to. Returns stored manifests among that which no repository links, and nobody has read. */
  addReferences(
    parent: number,
    type: string,
    references: readonly Reference[],
    limit: number,
  ): IndexedBlob[] {
    const unread: IndexedBlob[] = [];
    this.#together(() => {
      for (const { digest, kind } of references) {
        const child = this.#contentId(digest);
        if (child === parent) continue;
        this.#run('INSERT OR IGNORE INTO reference VALUES (?, ?)', parent, child);
        if (kind !== 'manifest') continue;
        const found = this.#get(
          `SELECT size FROM content WHERE id = ? AND known = 0 AND size <= ?
           AND NOT EXISTS (SELECT 1 FROM link WHERE content = ? AND kind = ${manifest})`,
          child,
          limit,
          child,
        );
        if (found !== undefined) unread.push({ digest, size: Number(found['size']), contentId: child });
      }
      this.#run('UPDATE content SET known = 1, type = ? WHERE id = ?', type, parent);
    });
    return unread;
  }

  /** Uses that are later than what is known. Those of what is not linked count for hidden content. */
  addUses(page: readonly Use[]): void {
    this.#together(() => {
      for (const { repository, digest, at } of page) {
        this.#run(
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

  /**
   * The same once the index is settled: what the used manifests refer to counts as used, too. `false`: nothing is
   * known of it in that repository.
   */
  renew({ repository, digest, at }: Use): boolean {
    let known = false;
    const ids = this.#get(
      'SELECT r.id AS r, c.id AS c FROM repository r, content c WHERE r.name = ? AND c.digest = ?',
      repository,
      digest,
    );
    if (ids !== undefined) {
      const links = this.#changes(
        `UPDATE link SET used = max(used, ?) WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
        at,
        Number(ids['r']),
        Number(ids['c']),
      );
      known = links > 0;
      this.#raise(Number(ids['r']), Number(ids['c']), at);
    }
    this.#run(
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
    this.#run(
      `UPDATE link SET used = ?1, effective = ?1, parents = (SELECT count(*) FROM reference f
       JOIN link p ON p.kind = ${manifest} AND p.repository = ?2 AND p.content = f.parent WHERE f.child = ?3)
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
      this.#run('INSERT OR IGNORE INTO reference VALUES (?, ?)', content, this.#contentId(child));
    }
    this.#keep(content);
  }

  /** Works out `effective` and `kept`. Unknown use counts as now. Yields between small portions of the work. */
  *settle(now: number): Generator<void> {
    for (const rows of this.#allLinks()) {
      this.#together(() => {
        for (const { kind, repository, content } of rows) {
          this.#run(
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
    for (const rows of this.#allLinks(manifest)) {
      this.#together(() => {
        for (const { repository, content } of rows) {
          const effective = this.#get(
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
      this.#run('UPDATE content SET kept = 0 WHERE id BETWEEN ? AND ?', from, to);
      yield;
    }
    for (const rows of this.#allLinks()) {
      this.#together(() => {
        for (const { content } of rows) this.#keep(content);
      });
      yield;
    }
    for (const [from, to] of this.#contentSlices()) {
      this.#run(
        `UPDATE content SET hidden = CASE WHEN kept = 1 OR size IS NULL THEN NULL ELSE coalesce(hidden, ?) END
         WHERE id BETWEEN ? AND ?`,
        now,
        from,
        to,
      );
      yield;
    }
  }

  /**
   * Links that may go, those used least recently first and manifests before what they refer to, from this time on:
   * none that a manifest in the same repository still refers to, none used after `usedBefore`.
   */
  candidates(which: Wanted, from: number, usedBefore: number, now: number): IndexedLink[] {
    return this.#links(
      `SELECT ${linkColumns} WHERE l.effective BETWEEN ?1 AND ?2 AND ${wanted[which]} AND l.parents = 0
       ORDER BY l.effective, l.kind DESC LIMIT 128`,
      from,
      usedBefore,
      now,
    );
  }

  /** What this manifest refers to and no other of its repository does, once it is gone; nothing used after this. */
  orphanedBy({ repositoryId, contentId }: IndexedLink, usedBefore: number): IndexedLink[] {
    return this.#links(
      `SELECT ${linkColumns} JOIN reference own ON own.child = l.content AND own.parent = ?
       WHERE l.repository = ? AND l.parents = 0 AND l.effective <= ?
       AND NOT EXISTS (SELECT 1 FROM tag t WHERE t.content = l.content AND t.repository = l.repository)`,
      contentId,
      repositoryId,
      usedBefore,
    );
  }

  find(kind: 'layer' | 'manifest', repository: Repository, digest: Digest): IndexedLink | undefined {
    const [found] = this.#links(
      `SELECT ${linkColumns} WHERE l.kind = ? AND r.name = ? AND c.digest = ?`,
      kind === 'layer' ? layer : manifest,
      repository,
      digest,
    );
    return found;
  }

  /** Links to content that is not there, after this one; a few of them. */
  dangling(after: IndexedLink | undefined): IndexedLink[] {
    return this.#links(
      `SELECT ${linkColumns} WHERE (l.kind, l.repository, l.content) > (?, ?, ?) AND c.size IS NULL
       ORDER BY l.kind, l.repository, l.content LIMIT 128`,
      after?.kind === 'manifest' ? manifest : layer,
      after?.repositoryId ?? 0,
      after?.contentId ?? 0,
    );
  }

  /** Tags whose manifest their repository does not have, after this one; a few of them. */
  danglingTags(after: IndexedTag | undefined): IndexedTag[] {
    return this.#tags(
      `WHERE (t.repository, t.name) > (?, ?) AND NOT EXISTS (SELECT 1 FROM link l WHERE l.kind = ${manifest}
       AND l.repository = t.repository AND l.content = t.content) ORDER BY t.repository, t.name LIMIT 128`,
      after?.repositoryId ?? 0,
      after?.tag ?? '',
    );
  }

  tagsOf({ repositoryId, contentId }: IndexedLink): IndexedTag[] {
    return this.#tags('WHERE t.repository = ? AND t.content = ?', repositoryId, contentId);
  }

  tagsIn(repository: Repository): IndexedTag[] {
    return this.#tags('WHERE r.name = ?', repository);
  }

  /** Links of a repository that none of its manifests refers to, and not used after this; a few of them. */
  linksIn(repository: Repository, usedBefore: number): IndexedLink[] {
    return this.#links(
      `SELECT ${linkColumns} WHERE r.name = ? AND l.parents = 0 AND l.effective <= ? LIMIT 128`,
      repository,
      usedBefore,
    );
  }

  removeTag({ repositoryId, tag }: IndexedTag): void {
    this.#run('DELETE FROM tag WHERE repository = ? AND name = ?', repositoryId, tag);
  }

  /** Returns the bytes that nothing needs any more without it. */
  removeLink({ kind, repositoryId, contentId }: IndexedLink): number {
    this.#run(
      'DELETE FROM link WHERE kind = ? AND repository = ? AND content = ?',
      kind === 'layer' ? layer : manifest,
      repositoryId,
      contentId,
    );
    if (kind === 'manifest') {
      for (const child of this.#children(contentId)) {
        this.#run(
          `UPDATE link SET parents = parents - 1 WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
          repositoryId,
          child,
        );
      }
    }
    const freed = this.#get(
      `SELECT size FROM content c WHERE id = ? AND size IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM link WHERE content = c.id)
       AND NOT EXISTS (SELECT 1 FROM reference f JOIN link p ON p.content = f.parent AND p.kind = ${manifest}
         WHERE f.child = c.id)`,
      contentId,
    );
    return Number(freed?.['size'] ?? 0);
  }

  /** When what nobody needs was found to be so, as it was written down. */
  addHidden(page: readonly (readonly [at: number, digest: Digest])[]): void {
    this.#together(() => {
      for (const [at, digest] of page) {
        this.#run('UPDATE content SET hidden = ? WHERE digest = ? AND size IS NOT NULL', at, digest);
      }
    });
  }

  /** In pages. */
  *hidden(): Generator<readonly (readonly [at: number, digest: Digest])[]> {
    for (let after: readonly [number, string] = [0, '']; ;) {
      const rows = this.#all(
        `SELECT hidden, digest FROM content WHERE hidden IS NOT NULL AND (hidden, digest) > (?, ?)
         ORDER BY hidden, digest LIMIT 1000`,
        ...after,
      );
      const page = rows.map(({ hidden, digest }) => [Number(hidden), digest as Digest] as const);
      const last = page.at(-1);
      if (last === undefined) return;
      yield page;
      after = last;
    }
  }

  hiddenBytes(): number {
    return Number(this.#get('SELECT sum(size) AS sum FROM content WHERE hidden IS NOT NULL')?.['sum'] ?? 0);
  }

  /** When the first of what is hidden was; `undefined`: nothing is. */
  hiddenSince(): number | undefined {
    const first = this.#get('SELECT min(hidden) AS first FROM content WHERE hidden IS NOT NULL')?.['first'];
    return typeof first === 'number' ? first : undefined;
  }

  /** Hidden since this time at the latest, and written not after; a few of them. */
  deletable(hiddenBefore: number, modifiedBefore: number): IndexedBlob[] {
    return this.#all(
      `SELECT digest, size, id AS contentId FROM content WHERE hidden <= ? AND modified <= ?
       ORDER BY hidden, digest LIMIT 64`,
      hiddenBefore,
      modifiedBefore,
    ) as unknown as IndexedBlob[];
  }

  /** It is to stay for the time being. */
  hideAgain({ contentId }: IndexedBlob, now: number): void {
    this.#run('UPDATE content SET hidden = ? WHERE id = ?', now, contentId);
  }

  /** Since when it is hidden, if it is. */
  hiddenAt({ contentId }: IndexedBlob): number | undefined {
    const at = this.#get('SELECT hidden FROM content WHERE id = ?', contentId)?.['hidden'];
    return typeof at === 'number' ? at : undefined;
  }

  removeBlob({ contentId, size }: IndexedBlob): void {
    this.#run('UPDATE content SET size = NULL, hidden = NULL WHERE id = ?', contentId);
    this.blobs -= 1;
    this.bytes -= size;
  }

  /** Last uses, of digests that begin with this hexadecimal digit. */
  *uses(digit: string): Generator<Use> {
    for (const algorithm of ['sha256', 'sha512']) {
      const rows = this.#statement(
        `SELECT r.name AS repository, c.digest, max(l.used) AS at FROM content c JOIN link l ON l.content = c.id
         JOIN repository r ON r.id = l.repository WHERE c.digest >= ? AND c.digest < ? GROUP BY c.digest, r.name`,
      ).iterate(`${algorithm}:${digit}`, `${algorithm}:${digit}g`);
      for (const { repository, digest, at } of rows) {
        yield { repository: repository as Repository, digest: digest as Digest, at: Number(at) };
      }
    }
  }

  /** When the first link will expire, as far as is known now; `undefined`: none will. */
  firstExpiry(): number | undefined {
    let first: number | undefined;
    const shortest = Number(this.#get('SELECT min(ttl) AS ttl FROM repository WHERE ttl > 0')?.['ttl'] ?? 0);
    if (shortest === 0) return undefined;
    const rows = this.#statement(
      'SELECT l.effective, r.ttl FROM link l JOIN repository r ON r.id = l.repository ORDER BY l.effective',
    ).iterate();
    for (const { effective, ttl } of rows) {
      if (first !== undefined && Number(effective) + shortest >= first) break;
      if (Number(ttl) > 0) first = Math.min(first ?? Infinity, Number(effective) + Number(ttl));
    }
    return first;
  }

  /** Tags, then manifests that neither a tag points to nor a manifest of their repository refers to; pages. */
  *images(): Generator<readonly (IndexedLink & { readonly tag: Tag | undefined; readonly bytes: number })[]> {
    const part = `WITH RECURSIVE part(id) AS (SELECT ?1 UNION SELECT f.child FROM reference f JOIN part ON f.parent = part.id) SELECT sum(size) AS bytes FROM content WHERE id IN part`;
    const bytesOf = (contentId: number): number => Number(this.#get(part, contentId)?.['bytes'] ?? 0);
    for (let after: IndexedTag | undefined; ;) {
      const tags = this.#tags(
        'WHERE (t.repository, t.name) > (?, ?) ORDER BY t.repository, t.name LIMIT 128',
        after?.repositoryId ?? 0,
        after?.tag ?? '',
      );
      const page = tags.flatMap(({ repository, tag, digest }) => {
        const link = this.find('manifest', repository, digest);
        return link === undefined ? [] : [{ ...link, tag, bytes: bytesOf(link.contentId) }];
      });
      if (page.length > 0) yield page;
      after = tags.at(-1);
      if (after === undefined) break;
    }
    for (let after: IndexedLink | undefined; ;) {
      const links = this.#links(
        `SELECT ${linkColumns} WHERE l.kind = ${manifest} AND (l.repository, l.content) > (?, ?) AND ${untagged}
         AND l.parents = 0 ORDER BY l.repository, l.content LIMIT 128`,
        after?.repositoryId ?? 0,
        after?.contentId ?? 0,
      );
      if (links.length === 0) break;
      yield links.map((link) => ({ ...link, tag: undefined, bytes: bytesOf(link.contentId) }));
      after = links.at(-1);
    }
  }

  /** Stored content under the repositories that link it, in pages. */
  *described(): Generator<readonly { readonly repository: Repository; readonly descriptor: Descriptor }[]> {
    for (const rows of this.#allLinks()) {
      yield rows.flatMap(({ kind, repository, content }) => {
        const found = this.#get(
          `SELECT r.name, c.digest, c.size, c.type FROM repository r, content c
           WHERE r.id = ? AND c.id = ? AND c.size IS NOT NULL`,
          repository,
          content,
        );
        const mediaType = kind === layer ? 'application/octet-stream' : found?.['type'];
        if (found === undefined || typeof mediaType !== 'string') return [];
        const descriptor = { digest: found['digest'] as Digest, size: Number(found['size']), mediaType };
        return [{ repository: found['name'] as Repository, descriptor }];
      });
    }
  }

  #repositoryId(name: Repository, ttlOf: (repository: Repository) => number): number {
    const known = this.#get('SELECT id FROM repository WHERE name = ?', name);
    if (known !== undefined) return Number(known['id']);
    return this.#run('INSERT INTO repository(name, ttl) VALUES (?, ?)', name, Math.ceil(ttlOf(name) / 1000));
  }

  #contentId(digest: Digest): number {
    const known = this.#get('SELECT id FROM content WHERE digest = ?', digest);
    return known === undefined
      ? this.#run('INSERT INTO content(digest) VALUES (?)', digest)
      : Number(known['id']);
  }

  #keep(content: number): void {
    if (this.#changes('UPDATE content SET kept = 1, hidden = NULL WHERE id = ? AND kept = 0', content) === 0)
      return;
    for (const child of this.#children(content)) this.#keep(child);
  }

  #raise(repository: number, content: number, at: number): void {
    const raised = this.#changes(
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
    this.#run(
      `UPDATE link SET parents = parents + 1 WHERE kind IN (${layer}, ${manifest}) AND repository = ? AND content = ?`,
      repository,
      child,
    );
    this.#raise(repository, child, at);
  }

  #children(content: number): number[] {
    return this.#all('SELECT child FROM reference WHERE parent = ?', content).map(({ child }) =>
      Number(child),
    );
  }

  *#allLinks(only?: number): Generator<readonly { kind: number; repository: number; content: number }[]> {
    let last: { kind: number; repository: number; content: number } = {
      kind: only ?? layer,
      repository: 0,
      content: 0,
    };
    for (;;) {
      const rows = this.#all(
        `SELECT kind, repository, content FROM link WHERE (kind, repository, content) > (?, ?, ?) AND kind <= ?
         ORDER BY kind, repository, content LIMIT 128`,
        last.kind,
        last.repository,
        last.content,
        only ?? manifest,
      ) as unknown as { kind: number; repository: number; content: number }[];
      const next = rows.at(-1);
      if (next === undefined) return;
      yield rows;
      last = next;
    }
  }

  *#contentSlices(): Generator<readonly [from: number, to: number]> {
    const last = Number(this.#get('SELECT max(id) AS last FROM content')?.['last'] ?? 0);
    for (let from = 1; from <= last; from += 2_000) yield [from, from + 1_999];
  }

  #links(sql: string, ...values: SQLInputValue[]): IndexedLink[] {
    return this.#all(sql, ...values).map(
      (row) => ({ ...row, kind: row['kind'] === layer ? 'layer' : 'manifest' }) as unknown as IndexedLink,
    );
  }

  #tags(where: string, ...values: SQLInputValue[]): IndexedTag[] {
    return this.#all(
      `SELECT r.name AS repository, t.name AS tag, c.digest, t.repository AS repositoryId FROM tag t
       JOIN repository r ON r.id = t.repository JOIN content c ON c.id = t.content ${where}`,
      ...values,
    ) as unknown as IndexedTag[];
  }

  #statement(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const prepared = this.#database.prepare(sql);
    this.#statements.set(sql, prepared);
    return prepared;
  }

  #all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#statement(sql).all(...values);
  }

  #get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#statement(sql).get(...values);
  }

  /** Returns the new row's id. */
  #run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).lastInsertRowid);
  }

  #changes(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).changes);
  }

  #together(work: () => void): void {
    this.#database.exec('BEGIN');
    work();
    this.#database.exec('COMMIT');
  }
}
