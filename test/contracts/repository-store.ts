import { expect, it } from 'vitest';
import { digestOf } from '../../src/oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../../src/oci/name.js';
import type { RepositoryStore } from '../../src/storage/storage.js';

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

/** What every RepositoryStore does. */
export function repositoryStoreContract(make: () => Promise<RepositoryStore>): void {
  it('knows nothing at first', async () => {
    const store = await make();
    expect(await store.hasLayer(repository('a'), one)).toBe(false);
    expect(await store.hasManifest(repository('a'), one)).toBe(false);
    expect(await store.readTag(repository('a'), tag('latest'))).toBeUndefined();
    expect(await store.listTags(repository('a'))).toEqual([]);
    expect(await store.listRepositories(undefined, 10)).toEqual([]);
  });

  it('links content in one repository and no other', async () => {
    const store = await make();
    await store.linkLayer(repository('a/b'), one);
    await store.linkManifest(repository('a/b'), two);
    expect(await store.hasLayer(repository('a/b'), one)).toBe(true);
    expect(await store.hasManifest(repository('a/b'), two)).toBe(true);
    expect(await store.hasLayer(repository('a/b'), two)).toBe(false);
    expect(await store.hasManifest(repository('a/b'), one)).toBe(false);
    expect(await store.hasLayer(repository('a'), one)).toBe(false);
  });

  it('moves a tag', async () => {
    const store = await make();
    await store.writeTag(repository('a'), tag('latest'), one);
    expect(await store.readTag(repository('a'), tag('latest'))).toBe(one);
    await store.writeTag(repository('a'), tag('latest'), two);
    expect(await store.readTag(repository('a'), tag('latest'))).toBe(two);
    expect(await store.listTags(repository('a'))).toEqual(['latest']);
  });

  it('writes one link from many at once', async () => {
    const store = await make();
    await Promise.all(Array.from({ length: 16 }, () => store.linkLayer(repository('a'), one)));
    expect(await store.hasLayer(repository('a'), one)).toBe(true);
  });

  it('lists repositories in the order of their names, page by page', async () => {
    const store = await make();
    const names = ['a', 'a-b', 'a/b', 'a/b/c', 'a0', 'b/x', 'b.y/z'].map(repository);
    for (const name of names) await store.linkManifest(name, one);
    await store.linkLayer(repository('only-layers'), one);
    const sorted = [...names].sort();
    expect(await store.listRepositories(undefined, 100)).toEqual(sorted);
    const paged: Repository[] = [];
    for (;;) {
      const page = await store.listRepositories(paged.at(-1), 2);
      paged.push(...page);
      if (page.length < 2) break;
    }
    expect(paged).toEqual(sorted);
    expect(await store.listRepositories('a/aaa', 2)).toEqual(['a/b', 'a/b/c']);
  });
}
