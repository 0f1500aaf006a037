import type { SQLInputValue } from 'node:sqlite';
import type { Descriptor } from '../oci/descriptor.js';
import type { Digest } from '../oci/digest.js';
import type { Reference } from '../oci/manifest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { Use } from '../usage/usage.js';
import {
  held,
  layer,
  manifest,
  references as referencesKnown,
  type IndexDatabase,
} from './index-database.js';

/** A link in the index. */
export interface IndexedLink {
  readonly kind: 'layer' | 'manifest';
  readonly repository: Repository;
  readonly digest: Digest;
  /** Seconds since 1970. */
  readonly effective: number;
  readonly repositoryId: number;
  readonly contentId: number;
  /** Of the content, in bytes; 0 where it is not stored. */
  readonly size: number;
  /** Manifests of the same repository that refer to it. */
  readonly parents: number;
  /** Of the repository, in seconds; 0 for ever, negative where the link stays in this run. */
  readonly ttl: number;
}

/** Content that nothing leads to, since this second. */
export interface HiddenContent {
  readonly at: number;
  readonly digest: Digest;
  readonly size: number;
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
  readonly contentId: number;
  /** Of the repository, as in {@link IndexedLink}. */
  readonly ttl: number;
}

export interface IndexedImage extends IndexedLink {
  readonly tag: Tag | undefined;
  /** Of all of its parts. */
  readonly bytes: number;
}

export type LinkKey = Pick<IndexedLink, 'kind' | 'repositoryId' | 'contentId'>;

/** Which links may go; see {@link IndexQueries.candidates}. */
export type Wanted = 'expired' | 'any';

/** Parts of an image whose sizes are added up: no image has more. */
const mostParts = 20_000;
const batch = 128;
/** Each takes a few queries. */
const imagesPerPage = 32;
/** A page of names is a record. */
const namesPerPage = 1_000;
const untagged =
  'NOT EXISTS (SELECT 1 FROM tag t WHERE t.content = l.content AND t.repository = l.repository)';
const linkColumns = `l.kind, l.repository AS repositoryId, l.content AS contentId, l.effective, l.parents,
  l.ttl, r.name AS repository, c.digest, coalesce(c.size, 0) AS size FROM link l JOIN repository r ON r.id = l.repository JOIN content c ON c.id = l.content`;

/** What an index can be asked. Every step looks at a few hundred rows at most; what may be more comes in pages. */
export class IndexQueries {
  constructor(private readonly database: IndexDatabase) {}

  /** Stored manifests that were not read in this look; a few of them. */
  unreadManifests(): IndexedBlob[] {
    return this.database.all(
      `SELECT digest, size, id AS contentId FROM content WHERE wanted = 1 AND known = 0 AND size IS NOT NULL
       ORDER BY id LIMIT 64`,
    ) as unknown as IndexedBlob[];
  }

  /** Linked manifests whose references are not known and whose content was not listed; some pages are empty. */
  unlistedManifests(): Generator<IndexedLink[]> {
    return this.#linksWhere('c.known = 0 AND c.size IS NULL', manifest);
  }

  /**
   * Links that may go, those used least recently first and manifests before what they refer to: none that a manifest
   * in the same repository still refers to, none used after `usedBefore`, none that is held.
   */
  candidates(which: Wanted, usedBefore: number, now: number): IndexedLink[] {
    const found = this.#ttls(which === 'expired' ? 1 : 0).flatMap((ttl) =>
      this.#links(
        `SELECT ${linkColumns} WHERE l.parents = 0 AND l.ttl = ? AND l.effective <= ?
         ORDER BY l.effective, l.kind DESC LIMIT ${batch}`,
        ttl,
        which === 'expired' ? Math.min(usedBefore, now - ttl) : usedBefore,
      ),
    );
    return found.sort((a, b) => a.effective - b.effective || b.kind.localeCompare(a.kind)).slice(0, batch);
  }

  /** Links that no tag and no manifest of their repository leads to, and not used after this; some pages are empty. */
  untagged(usedBefore: number): Generator<IndexedLink[]> {
    return this.#linksWhere(
      `l.parents = 0 AND l.ttl <> ${held} AND l.effective <= ? AND ${untagged}`,
      undefined,
      usedBefore,
    );
  }

  /** What this manifest refers to and no other of its repository does, once it is gone; nothing used after this. */
  *orphanedBy({ repositoryId, contentId }: LinkKey, usedBefore: number): Generator<IndexedLink[]> {
    for (let after = 0; ;) {
      const rows = this.database.all(
        `SELECT child FROM reference WHERE parent = ? AND child > ? ORDER BY child LIMIT ${batch}`,
        contentId,
        after,
      );
      const last = rows.at(-1)?.['child'];
      if (last === undefined) return;
      yield this.#links(
        `SELECT ${linkColumns} JOIN reference own ON own.child = l.content AND own.parent = ?
         WHERE own.child > ? AND own.child <= ? AND l.repository = ? AND l.parents = 0 AND l.effective <= ?
         AND l.ttl <> ${held} AND ${untagged}`,
        contentId,
        after,
        last,
        repositoryId,
        usedBefore,
      );
      after = Number(last);
    }
  }

  /** A manifest that was read, with its references; `undefined`: it was not. */
  manifest(
    digest: Digest,
  ):
    | { readonly type: string; readonly references: readonly Pick<Reference, 'digest' | 'kind'>[] }
    | undefined {
    const found = this.database.get(
      `SELECT id, type FROM content WHERE digest = ? AND known = ${referencesKnown}`,
      digest,
    );
    if (found === undefined) return undefined;
    const rows = this.database.all(
      'SELECT c.digest, c.wanted FROM reference f JOIN content c ON c.id = f.child WHERE f.parent = ?',
      Number(found['id']),
    );
    const references = rows.map(({ digest, wanted }) => ({
      digest: digest as Digest,
      kind: wanted === 1 ? ('manifest' as const) : ('blob' as const),
    }));
    return { type: found['type'] as string, references };
  }

  linkOf({ kind, repositoryId, contentId }: LinkKey): IndexedLink | undefined {
    return this.#links(
      `SELECT ${linkColumns} WHERE l.kind = ? AND l.repository = ? AND l.content = ?`,
      kind === 'layer' ? layer : manifest,
      repositoryId,
      contentId,
    )[0];
  }

  /** A repository that links this content as a manifest, the first after this one. */
  linkingAsManifest(content: number, after: number): { id: number; name: Repository } | undefined {
    return this.database.get(
      `SELECT r.id, r.name FROM link l JOIN repository r ON r.id = l.repository
       WHERE l.content = ? AND l.kind = ${manifest} AND l.repository > ? ORDER BY l.repository LIMIT 1`,
      content,
      after,
    ) as { id: number; name: Repository } | undefined;
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

  /** Links to content that is not there; some pages are empty. */
  dangling(): Generator<IndexedLink[]> {
    return this.#linksWhere(`c.size IS NULL AND l.ttl <> ${held}`);
  }

  /** Tags whose manifest their repository does not have; some pages are empty. */
  *danglingTags(): Generator<IndexedTag[]> {
    for (const tags of this.tagPages()) {
      yield tags.filter(
        ({ repositoryId, contentId, ttl }) =>
          ttl !== held && this.linkOf({ kind: 'manifest', repositoryId, contentId }) === undefined,
      );
    }
  }

  *tagPages(): Generator<IndexedTag[]> {
    for (let after: IndexedTag | undefined; ;) {
      const tags = this.#tags(
        `WHERE (t.repository, t.name) > (?, ?) ORDER BY t.repository, t.name LIMIT ${batch}`,
        after?.repositoryId ?? 0,
        after?.tag ?? '',
      );
      after = tags.at(-1);
      if (after === undefined) return;
      yield tags;
    }
  }

  /** Tags that point to a link's content, after this one; a few of them. */
  tagsOf({ repositoryId, contentId }: LinkKey, after = ''): IndexedTag[] {
    return this.#tags(
      `WHERE t.content = ? AND t.repository = ? AND t.name > ? ORDER BY t.name LIMIT ${batch}`,
      contentId,
      repositoryId,
      after,
    );
  }

  /**
   * How many links of manifests refer to this content, in one repository or in all of them: a count for each few
   * references.
   */
  *linkedParents(content: number, repository?: number): Generator<number> {
    for (let after = 0; ;) {
      const rows = this.database.all(
        `SELECT parent FROM reference WHERE child = ? AND parent > ? ORDER BY parent LIMIT ${batch}`,
        content,
        after,
      );
      const last = rows.at(-1)?.['parent'];
      if (last === undefined) return;
      // CROSS JOIN is SQLite's word for "in this order": by its own guess it goes through all manifests.
      const linked = this.database.get(
        `SELECT count(*) AS count FROM reference f CROSS JOIN link p ON p.content = f.parent AND p.kind = ${manifest}
         WHERE f.child = ?1 AND f.parent > ?2 AND f.parent <= ?3 AND (?4 IS NULL OR p.repository = ?4)`,
        content,
        after,
        last,
        repository ?? null,
      );
      yield Number(linked?.['count']);
      after = Number(last);
    }
  }

  /** What a tag points to. */
  tagged(repository: Repository, tag: string): Digest | undefined {
    return this.#tags('WHERE r.name = ? AND t.name = ?', repository, tag)[0]?.digest;
  }

  tagOf(repository: Repository, tag: Tag): IndexedTag | undefined {
    return this.#tags('WHERE r.name = ? AND t.name = ?', repository, tag)[0];
  }

  /** Tags of a repository, after this one; a few of them. */
  tagsIn(repository: Repository, after: string): IndexedTag[] {
    return this.#tags(`WHERE r.name = ? AND t.name > ? ORDER BY t.name LIMIT ${batch}`, repository, after);
  }

  /** Links of a repository, after this content; a few of them. */
  linksIn(kind: 'layer' | 'manifest', repository: Repository, after: number): IndexedLink[] {
    return this.#links(
      `SELECT ${linkColumns} WHERE l.kind = ? AND l.repository = (SELECT id FROM repository WHERE name = ?)
       AND l.content > ? ORDER BY l.content LIMIT ${batch}`,
      kind === 'layer' ? layer : manifest,
      repository,
      after,
    );
  }

  /** Content that nothing leads to and since when, in pages. */
  *hidden(): Generator<readonly HiddenContent[]> {
    for (let last: HiddenContent | undefined; ;) {
      const page = this.database.all(
        `SELECT hidden AS at, digest, size FROM content WHERE hidden IS NOT NULL AND (hidden, digest) > (?, ?)
         ORDER BY hidden, digest LIMIT 1000`,
        last?.at ?? 0,
        last?.digest ?? '',
      ) as unknown as HiddenContent[];
      last = page.at(-1);
      if (last === undefined) return;
      yield page;
    }
  }

  /** The bytes of all that is hidden; yields between pages. */
  *hiddenBytes(): Generator<void, number> {
    let bytes = 0;
    for (const page of this.hidden()) {
      for (const { size } of page) bytes += size;
      yield;
    }
    return bytes;
  }

  /** When the first of what is hidden was; `undefined`: nothing is. */
  hiddenSince(): number | undefined {
    const first = this.database.get('SELECT min(hidden) AS first FROM content WHERE hidden IS NOT NULL')?.[
      'first'
    ];
    return typeof first === 'number' ? first : undefined;
  }

  /** Content that was hidden at this time or before, in pages: of each page what was written at that time or before. */
  *deletable(hiddenBy: number, writtenBy: number): Generator<readonly IndexedBlob[]> {
    for (let last = { hidden: 0, digest: '' }; ;) {
      const rows = this.database.all(
        `SELECT digest, size, id AS contentId, hidden, modified FROM content
         WHERE hidden IS NOT NULL AND hidden <= ? AND (hidden, digest) > (?, ?) ORDER BY hidden, digest LIMIT ${batch}`,
        hiddenBy,
        last.hidden,
        last.digest,
      ) as unknown as (IndexedBlob & { readonly hidden: number; readonly modified: number })[];
      const end = rows.at(-1);
      if (end === undefined) return;
      yield rows.filter(({ modified }) => modified <= writtenBy);
      last = end;
    }
  }

  /** Since when it is hidden, if it is. */
  hiddenAt({ contentId }: IndexedBlob): number | undefined {
    const at = this.database.get('SELECT hidden FROM content WHERE id = ?', contentId)?.['hidden'];
    return typeof at === 'number' ? at : undefined;
  }

  /** Content whose hexadecimal digits begin like this, by algorithm and digest; in pages. */
  *contents(prefix: string): Generator<readonly { readonly id: number; readonly digest: Digest }[]> {
    for (const algorithm of ['sha256', 'sha512']) {
      for (let last = `${algorithm}:${prefix}`; ;) {
        const page = this.database.all(
          `SELECT id, digest FROM content WHERE digest > ? AND digest < ? ORDER BY digest LIMIT ${batch}`,
          last,
          `${algorithm}:${prefix}g`,
        ) as unknown as { id: number; digest: Digest }[];
        const end = page.at(-1);
        if (end === undefined) break;
        yield page;
        last = end.digest;
      }
    }
  }

  /** Last uses of such content, in pages. */
  *uses(prefix: string): Generator<readonly Use[]> {
    for (const page of this.contents(prefix)) {
      let uses: Use[] = [];
      for (const { id, digest } of page) {
        for (const some of this.#usesOf(id, digest)) {
          uses.push(...some);
          if (uses.length < batch) continue;
          yield uses;
          uses = [];
        }
      }
      yield uses;
    }
  }

  *#usesOf(contentId: number, digest: Digest): Generator<readonly Use[]> {
    let last = { kind: layer, id: 0 };
    for (;;) {
      // A repository may link it as both kinds: its last use counts for both.
      const rows = this.database.all(
        `SELECT l.kind, r.id, r.name, max(l.used, coalesce(other.used, 0)) AS at
         FROM link l JOIN repository r ON r.id = l.repository
         LEFT JOIN link other ON other.kind = 1 - l.kind AND other.repository = l.repository AND other.content = l.content
         WHERE l.content = ? AND (l.kind, l.repository) > (?, ?) AND l.used IS NOT NULL
         ORDER BY l.kind, l.repository LIMIT ${batch}`,
        contentId,
        last.kind,
        last.id,
      ) as unknown as { kind: number; id: number; name: Repository; at: number }[];
      yield rows.map(({ name, at }) => ({ repository: name, digest, at }));
      const end = rows.at(-1);
      if (end === undefined || rows.length < batch) return;
      last = end;
    }
  }

  /** When the first link will expire, as far as is known now; `undefined`: none will. */
  firstExpiry(): number | undefined {
    // A link that a manifest refers to was not used before that manifest.
    const times = this.#ttls(1).flatMap((ttl) => {
      const first = this.database.get(
        'SELECT min(effective) AS at FROM link WHERE parents = 0 AND ttl = ?',
        ttl,
      );
      return typeof first?.['at'] === 'number' ? [first['at'] + ttl] : [];
    });
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** Links of manifests with the second of their own last use, latest first, in pages. */
  *manifestsByUse(): Generator<
    readonly { repository: number; content: number; used: number; effective: number }[]
  > {
    for (let last = { repository: 0, content: 0, used: Number.MAX_SAFE_INTEGER }; ;) {
      const rows = this.database.all(
        `SELECT used, repository, content, effective FROM link INDEXED BY link_used WHERE kind = ${manifest}
         AND (used, repository, content) < (?, ?, ?) ORDER BY used DESC, repository DESC, content DESC LIMIT ${batch}`,
        last.used,
        last.repository,
        last.content,
      ) as unknown as { repository: number; content: number; used: number; effective: number }[];
      const end = rows.at(-1);
      if (end === undefined) return;
      yield rows;
      last = end;
    }
  }

  /** Times to live of repositories, from this one up: as many as the configuration has. */
  #ttls(from: number): number[] {
    const ttls: number[] = [];
    for (let next = from; ;) {
      const found = this.database.get('SELECT min(ttl) AS ttl FROM repository WHERE ttl >= ?', next)?.['ttl'];
      if (typeof found !== 'number') return ttls;
      ttls.push(found);
      next = found + 1;
    }
  }

  /** Tags, then manifests that neither a tag points to nor a manifest of their repository refers to; in pages. */
  *images(): Generator<readonly IndexedImage[]> {
    let page: IndexedImage[] = [];
    for (const image of this.#eachImage()) {
      if (image !== undefined) page.push(image);
      if (image !== undefined && page.length < imagesPerPage) continue;
      yield page;
      page = [];
    }
    yield page;
  }

  /** `undefined`: a few rows were looked at, and more follow. */
  *#eachImage(): Generator<IndexedImage | undefined> {
    for (const tags of this.tagPages()) {
      for (const { tag, repositoryId, contentId } of tags) {
        const link = this.linkOf({ kind: 'manifest', repositoryId, contentId });
        if (link !== undefined) yield { ...link, tag, bytes: yield* this.#bytesOf(link) };
      }
      yield undefined;
    }
    for (const links of this.#linksWhere(`l.parents = 0 AND ${untagged}`, manifest)) {
      for (const link of links) yield { ...link, tag: undefined, bytes: yield* this.#bytesOf(link) };
      yield undefined;
    }
  }

  /** Of an image with all of its parts, each counted once. */
  *#bytesOf({ contentId, size }: IndexedLink): Generator<undefined, number> {
    const parts = new Set([contentId]);
    let bytes = size;
    let pages = 0;
    for (const parent of parts) {
      for (const page of this.#partsOf(parent)) {
        if ((pages += 1) > 1) yield undefined;
        for (const part of page) {
          if (parts.size === mostParts) return bytes;
          if (!parts.has(part.id)) bytes += part.size;
          parts.add(part.id);
        }
      }
    }
    return bytes;
  }

  *#partsOf(manifest: number): Generator<readonly { readonly id: number; readonly size: number }[]> {
    for (let after = 0; ;) {
      const rows = this.database.all(
        `SELECT c.id, coalesce(c.size, 0) AS size FROM reference f JOIN content c ON c.id = f.child
         WHERE f.parent = ? AND f.child > ? ORDER BY f.child LIMIT ${batch}`,
        manifest,
        after,
      ) as unknown as { id: number; size: number }[];
      const end = rows.at(-1);
      if (end === undefined) return;
      yield rows;
      if (rows.length < batch) return;
      after = end.id;
    }
  }

  /** Repositories that hold a manifest, or may hold one that was not listed; sorted, in pages. */
  *repositories(): Generator<readonly Repository[]> {
    for (let after: Repository | '' = ''; ;) {
      const rows = this.database.all(
        `SELECT name, ttl = ${held} OR EXISTS (
           SELECT 1 FROM link WHERE kind = ${manifest} AND repository = repository.id) AS holds
         FROM repository WHERE name > ? ORDER BY name LIMIT ${namesPerPage}`,
        after,
      ) as unknown as { name: Repository; holds: number }[];
      const last = rows.at(-1);
      if (last === undefined) return;
      yield rows.filter(({ holds }) => holds === 1).map(({ name }) => name);
      after = last.name;
    }
  }

  /** Stored content under the repositories that link it, in pages. */
  *described(): Generator<readonly { readonly repository: Repository; readonly descriptor: Descriptor }[]> {
    for (const rows of this.linkIds()) {
      yield rows.flatMap(({ kind, repository, content }) => {
        const found = this.database.get(
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

  *linkIds(only?: number): Generator<readonly { kind: number; repository: number; content: number }[]> {
    let last: { kind: number; repository: number; content: number } = {
      kind: only ?? layer,
      repository: 0,
      content: 0,
    };
    for (;;) {
      const rows = this.database.all(
        `SELECT kind, repository, content FROM link WHERE (kind, repository, content) > (?, ?, ?) AND kind <= ?
         ORDER BY kind, repository, content LIMIT ${batch}`,
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

  /** Pages of links, in the order of their keys: of every {@link batch} links those that this holds of. */
  *#linksWhere(condition: string, only?: number, ...values: SQLInputValue[]): Generator<IndexedLink[]> {
    for (const rows of this.linkIds(only)) {
      const [first, last] = [rows[0], rows.at(-1)];
      if (first === undefined || last === undefined) continue;
      yield this.#links(
        `SELECT ${linkColumns} WHERE (l.kind, l.repository, l.content) >= (?, ?, ?)
         AND (l.kind, l.repository, l.content) <= (?, ?, ?) AND ${condition} ORDER BY l.kind, l.repository, l.content`,
        first.kind,
        first.repository,
        first.content,
        last.kind,
        last.repository,
        last.content,
        ...values,
      );
    }
  }

  #links(sql: string, ...values: SQLInputValue[]): IndexedLink[] {
    return this.database
      .all(sql, ...values)
      .map(
        (row) => ({ ...row, kind: row['kind'] === layer ? 'layer' : 'manifest' }) as unknown as IndexedLink,
      );
  }

  #tags(where: string, ...values: SQLInputValue[]): IndexedTag[] {
    return this.database.all(
      `SELECT r.name AS repository, t.name AS tag, c.digest, t.repository AS repositoryId,
       t.content AS contentId, r.ttl FROM tag t
       JOIN repository r ON r.id = t.repository JOIN content c ON c.id = t.content ${where}`,
      ...values,
    ) as unknown as IndexedTag[];
  }
}
