import type { SQLInputValue } from 'node:sqlite';
import type { Descriptor } from '../oci/descriptor.js';
import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { Use } from '../usage/usage.js';
import { layer, manifest, type IndexDatabase } from './index-database.js';

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

/** Which links may go; see {@link IndexQueries.candidates}. */
export type Wanted = 'expired' | 'any' | 'untagged';

const untagged =
  'NOT EXISTS (SELECT 1 FROM tag t WHERE t.content = l.content AND t.repository = l.repository)';
const wanted: Readonly<Record<Wanted, string>> = {
  expired: 'r.ttl > 0 AND l.effective <= ?3 - r.ttl',
  any: '?3 > 0',
  untagged: `?3 > 0 AND ${untagged}`,
};
const linkColumns = `l.kind, l.repository AS repositoryId, l.content AS contentId, l.effective, l.parents,
  r.name AS repository, c.digest, coalesce(c.size, 0) AS size FROM link l JOIN repository r ON r.id = l.repository JOIN content c ON c.id = l.content`;

/** What an index can be asked. Lists are short, or come in short pages. */
export class IndexQueries {
  constructor(private readonly database: IndexDatabase) {}

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

  /** What a tag points to. */
  tagged(repository: Repository, tag: string): Digest | undefined {
    return this.#tags('WHERE r.name = ? AND t.name = ?', repository, tag)[0]?.digest;
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

  /** In pages. */
  *hidden(): Generator<readonly (readonly [at: number, digest: Digest])[]> {
    for (let after: readonly [number, string] = [0, '']; ;) {
      const rows = this.database.all(
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
    return Number(
      this.database.get('SELECT sum(size) AS sum FROM content WHERE hidden IS NOT NULL')?.['sum'] ?? 0,
    );
  }

  /** When the first of what is hidden was; `undefined`: nothing is. */
  hiddenSince(): number | undefined {
    const first = this.database.get('SELECT min(hidden) AS first FROM content WHERE hidden IS NOT NULL')?.[
      'first'
    ];
    return typeof first === 'number' ? first : undefined;
  }

  /** Hidden since this time at the latest, and written not after; a few of them. */
  deletable(hiddenBefore: number, modifiedBefore: number): IndexedBlob[] {
    return this.database.all(
      `SELECT digest, size, id AS contentId FROM content WHERE hidden <= ? AND modified <= ?
       ORDER BY hidden, digest LIMIT 64`,
      hiddenBefore,
      modifiedBefore,
    ) as unknown as IndexedBlob[];
  }

  /** Since when it is hidden, if it is. */
  hiddenAt({ contentId }: IndexedBlob): number | undefined {
    const at = this.database.get('SELECT hidden FROM content WHERE id = ?', contentId)?.['hidden'];
    return typeof at === 'number' ? at : undefined;
  }

  /** Last uses, of digests that begin with this hexadecimal digit. */
  *uses(digit: string): Generator<Use> {
    for (const algorithm of ['sha256', 'sha512']) {
      const rows = this.database.rows(
        `SELECT r.name AS repository, c.digest, max(l.used) AS at FROM content c JOIN link l ON l.content = c.id
         JOIN repository r ON r.id = l.repository WHERE c.digest >= ? AND c.digest < ? GROUP BY c.digest, r.name`,
        `${algorithm}:${digit}`,
        `${algorithm}:${digit}g`,
      );
      for (const { repository, digest, at } of rows) {
        yield { repository: repository as Repository, digest: digest as Digest, at: Number(at) };
      }
    }
  }

  /** When the first link will expire, as far as is known now; `undefined`: none will. */
  firstExpiry(): number | undefined {
    let first: number | undefined;
    const shortest = Number(
      this.database.get('SELECT min(ttl) AS ttl FROM repository WHERE ttl > 0')?.['ttl'] ?? 0,
    );
    if (shortest === 0) return undefined;
    const rows = this.database.rows(
      'SELECT l.effective, r.ttl FROM link l JOIN repository r ON r.id = l.repository ORDER BY l.effective',
    );
    for (const { effective, ttl } of rows) {
      if (first !== undefined && Number(effective) + shortest >= first) break;
      if (Number(ttl) > 0) first = Math.min(first ?? Infinity, Number(effective) + Number(ttl));
    }
    return first;
  }

  /** Tags, then manifests that neither a tag points to nor a manifest of their repository refers to; pages. */
  *images(): Generator<readonly (IndexedLink & { readonly tag: Tag | undefined; readonly bytes: number })[]> {
    const part = `WITH RECURSIVE part(id) AS (SELECT ?1 UNION SELECT f.child FROM reference f JOIN part ON f.parent = part.id) SELECT sum(size) AS bytes FROM content WHERE id IN part`;
    const bytesOf = (contentId: number): number => Number(this.database.get(part, contentId)?.['bytes'] ?? 0);
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

  #links(sql: string, ...values: SQLInputValue[]): IndexedLink[] {
    return this.database
      .all(sql, ...values)
      .map(
        (row) => ({ ...row, kind: row['kind'] === layer ? 'layer' : 'manifest' }) as unknown as IndexedLink,
      );
  }

  #tags(where: string, ...values: SQLInputValue[]): IndexedTag[] {
    return this.database.all(
      `SELECT r.name AS repository, t.name AS tag, c.digest, t.repository AS repositoryId FROM tag t
       JOIN repository r ON r.id = t.repository JOIN content c ON c.id = t.content ${where}`,
      ...values,
    ) as unknown as IndexedTag[];
  }
}
