import { rmSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';

/** What `link.kind` may be. */
export const layer = 0;
export const manifest = 1;

/**
 * Times are seconds since 1970. `effective` is the last use of a link, its own or that of a manifest in the same
 * repository that refers to it; `parents` counts those manifests. `kept`: linked somewhere, or
 * referred to by what is. `hidden`: since when it is not.
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

  /** In one transaction. */
  together(work: () => void): void {
    this.#database.exec('BEGIN');
    work();
    this.#database.exec('COMMIT');
  }
}
