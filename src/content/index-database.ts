import { rmSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';

/** What `link.kind` may be. */
export const layer = 0;
export const manifest = 1;
/** What `content.known` may be: its references are in the index; the storage did not give it; it is no manifest. */
export const references = 1;
export const unreadable = 2;
export const noManifest = 3;
/** A `ttl` of what stays, whatever its use. */
export const held = -1;
/** How long one portion of the work may keep requests waiting, in milliseconds. */
const portionMs = 5;

/**
 * Times are seconds since 1970. `effective` is the last use of a link, its own or that of a manifest in the same
 * repository that refers to it; `parents` counts those manifests. `ttl` is the repository's time to live; 0 means for
 * ever, and {@link held} that the link stays in this run. `kept`: linked somewhere, or referred to by linked content.
 * `hidden`: since when it is not. `wanted`: linked as a manifest, or named as one by a manifest. `known`: 0 while it was
 * not read, else {@link references}, {@link unreadable} or {@link noManifest}.
 */
const tables = `
  CREATE TABLE repository(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, ttl INTEGER NOT NULL);
  CREATE INDEX repository_ttl ON repository(ttl);
  CREATE TABLE content(id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, size INTEGER, modified INTEGER,
    type TEXT, wanted INTEGER NOT NULL DEFAULT 0, known INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 0,
    hidden INTEGER);
  CREATE INDEX content_unread ON content(id) WHERE wanted = 1 AND known = 0 AND size IS NOT NULL;
  CREATE INDEX content_hidden ON content(hidden, digest, size) WHERE hidden IS NOT NULL;
  CREATE TABLE link(kind INTEGER, repository INTEGER, content INTEGER, ttl INTEGER NOT NULL, used INTEGER,
    effective INTEGER, parents INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(kind, repository, content)) WITHOUT ROWID;
  CREATE INDEX link_content ON link(content, kind);
  CREATE INDEX link_used ON link(used, repository, content) WHERE kind = ${manifest};
  CREATE INDEX link_free ON link(ttl, effective, kind DESC) WHERE parents = 0;
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

export type Row = Record<string, SQLOutputValue>;

/** The scratch file of an index: its tables, and statements that are prepared once. */
export class IndexDatabase implements Disposable {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  /** The file must not exist. */
  constructor(private readonly file: string) {
    // A database that defends itself refuses to be without a journal.
    this.#database = new DatabaseSync(file, { defensive: false });
    this.#database.exec(settings + tables);
  }

  [Symbol.dispose](): void {
    this.#database.close();
    rmSync(this.file, { force: true });
  }

  #statement(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const prepared = this.#database.prepare(sql);
    this.#statements.set(sql, prepared);
    return prepared;
  }

  *rows(sql: string, ...values: SQLInputValue[]): Generator<Row> {
    yield* this.#statement(sql).iterate(...values);
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#statement(sql).all(...values);
  }

  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#statement(sql).get(...values);
  }

  /** Returns the new row's id. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).lastInsertRowid);
  }

  changes(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).changes);
  }

  /**
   * Does small pieces of work in transactions of a few milliseconds, and yields between two of them. Returns what the
   * work returns.
   */
  *portions<T>(pieces: Generator<void, T>): Generator<void, T> {
    for (;;) {
      const until = performance.now() + portionMs;
      const result = this.together(() => {
        for (;;) {
          const piece = pieces.next();
          if (piece.done === true || performance.now() >= until) return piece;
        }
      });
      if (result.done === true) return result.value;
      yield;
    }
  }

  /** In one transaction. */
  together<T>(work: () => T): T {
    this.#database.exec('BEGIN');
    try {
      return work();
    } finally {
      this.#database.exec('COMMIT');
    }
  }
}
