import { expect, it } from 'vitest';
import { digestOf } from '../../src/oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../../src/oci/name.js';
import { listAdded, writeList } from '../../src/storage/repository-records.js';
import type { RecordStore, RepositoryStore } from '../../src/storage/storage.js';

export function repository(text: string): Repository {
  const name = parseRepository(text);
  if (name === undefined) throw new TypeError(text);
  return name;
}

export function tag(text: string): Tag {
  const name = parseTag(text);
  if (name === undefined) throw new TypeError(text);
  return name;
}

const one = digestOf(Buffer.from('one'));
const two = digestOf(Buffer.from('two'), 'sha512');

/** The first page of names, at most `enough`. */
export async function firstRepositories(
  store: RepositoryStore,
  after: string | undefined,
  enough: number,
): Promise<readonly Repository[]> {
  const { signal } = new AbortController();
  for await (const page of store.listRepositories(after, enough, signal)) return page.slice(0, enough);
  return [];
}

/** Every RepositoryStore behaves like this; the records are those of the same storage. */
export function repositoryStoreContract(
  stores: () => { readonly repositories: RepositoryStore; readonly records: RecordStore },
): void {
  const make = (): RepositoryStore => stores().repositories;

  it('knows nothing at first', async () => {
    const store = make();
    expect(await store.hasLayer(repository('a'), one)).toBe(false);
    expect(await store.hasManifest(repository('a'), one)).toBe(false);
    expect(await store.readTag(repository('a'), tag('latest'))).toBeUndefined();
    expect(await store.listTags(repository('a'))).toEqual([]);
    expect(await firstRepositories(store, undefined, 10)).toEqual([]);
  });

  it('links content in one repository and no other', async () => {
    const store = make();
    await store.linkLayer(repository('a/b'), one);
    await store.linkManifest(repository('a/b'), two);
    expect(await store.hasLayer(repository('a/b'), one)).toBe(true);
    expect(await store.hasManifest(repository('a/b'), two)).toBe(true);
    expect(await store.hasLayer(repository('a/b'), two)).toBe(false);
    expect(await store.hasManifest(repository('a/b'), one)).toBe(false);
    expect(await store.hasLayer(repository('a'), one)).toBe(false);
  });

  it('moves a tag', async () => {
    const store = make();
    await store.writeTag(repository('a'), tag('latest'), one);
    expect(await store.readTag(repository('a'), tag('latest'))).toBe(one);
    await store.writeTag(repository('a'), tag('latest'), two);
    expect(await store.readTag(repository('a'), tag('latest'))).toBe(two);
    expect(await store.listTags(repository('a'))).toEqual(['latest']);
  });

  it('writes one link from many at once', async () => {
    const store = make();
    await Promise.all(Array.from({ length: 16 }, () => store.linkLayer(repository('a'), one)));
    expect(await store.hasLayer(repository('a'), one)).toBe(true);
  });

  it('lists repositories in the order of their names, page by page', async () => {
    const store = make();
    const names = ['a', 'a-b', 'a/b', 'a/b/c', 'a0', 'b/x', 'b.y/z'].map(repository);
    for (const name of names) await store.linkManifest(name, one);
    await store.linkLayer(repository('only-layers'), one);
    const sorted = [...names].sort();
    expect(await firstRepositories(store, undefined, 100)).toEqual(sorted);
    const paged: Repository[] = [];
    for (;;) {
      const page = await firstRepositories(store, paged.at(-1), 2);
      paged.push(...page);
      if (page.length < 2) break;
    }
    expect(paged).toEqual(sorted);
    expect(await firstRepositories(store, 'a/aaa', 2)).toEqual(['a/b', 'a/b/c']);
  });

  it('lists the repositories that a job wrote down, and those that got a manifest since', async () => {
    const { repositories, records } = stores();
    await repositories.linkManifest(repository('a/before'), one);
    const added = await listAdded(records);
    await repositories.linkManifest(repository('a'), one);
    await repositories.linkManifest(repository('a/b'), one);
    await writeList(records, [['a-b', 'a/before'].map(repository), [repository('b')]], added);
    await repositories.linkManifest(repository('c'), one);
    const found: Repository[] = [];
    for await (const page of repositories.listRepositories(undefined, 1, new AbortController().signal)) {
      found.push(...page);
    }
    expect(found).toEqual(['a', 'a-b', 'a/b', 'a/before', 'b', 'c']);
    expect(await firstRepositories(repositories, 'a/b', 10)).toEqual(['a/before']);
    expect(await listAdded(records)).toHaveLength(3);
  });
}
