import { describe, expect, it } from 'vitest';
import { MemoryRecords } from '../../test/fakes/memory-records.js';
import { parseRepository, type Repository } from '../oci/name.js';
import { RepositoryList, type Walk } from './repository-list.js';
import { listAdded, recordAdded, writeList } from './repository-records.js';

const { signal } = new AbortController();
const stored = ['a', 'b', 'c', 'd', 'e'].map(repository);

function repository(text: string): Repository {
  const name = parseRepository(text);
  if (name === undefined) throw new TypeError(text);
  return name;
}

async function names(
  list: RepositoryList,
  after?: string,
  limit = 2,
  caller = signal,
): Promise<readonly Repository[]> {
  const found: Repository[] = [];
  for await (const page of list.pages(after, limit, caller)) found.push(...page);
  return found;
}

/** Counts its walks. Each waits for `gate`, or for the end of its callers. */
class Folders {
  readonly began: (string | undefined)[] = [];
  running = 0;
  most = 0;
  gate: Promise<void> = Promise.resolve();

  readonly walk: Walk = async (after, limit, caller) => {
    this.began.push(after);
    this.running += 1;
    this.most = Math.max(this.most, this.running);
    try {
      await Promise.race([this.gate, aborted(caller)]);
      return stored.filter((name) => after === undefined || name > after).slice(0, limit);
    } finally {
      this.running -= 1;
    }
  };
}

function aborted(caller: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    caller.addEventListener('abort', () => reject(caller.reason as Error));
  });
}

function listOf(records = new MemoryRecords()) {
  const folders = new Folders();
  return { records, folders, list: new RepositoryList(records, folders.walk) };
}

describe('the list of repositories that a job wrote', () => {
  it('is read without a walk through the folders', async () => {
    const { records, folders, list } = listOf();
    await writeList(records, [stored.slice(0, 3), [], stored.slice(3)], []);
    expect(await names(list)).toEqual(stored);
    expect(await names(list, 'b')).toEqual(['c', 'd', 'e']);
    expect(await names(list, 'c')).toEqual(['d', 'e']);
    expect(await names(list, 'cc')).toEqual(['d', 'e']);
    expect(await names(list, 'e')).toEqual([]);
    expect(folders.began).toEqual([]);
  });

  it('may be empty', async () => {
    const { records, folders, list } = listOf();
    await writeList(records, [], []);
    expect(await names(list)).toEqual([]);
    await recordAdded(records, repository('x/y'));
    expect(await names(list)).toEqual(['x/y']);
    expect(folders.began).toEqual([]);
  });

  it('loses no repository that was added while the job looked through the storage', async () => {
    const { records, list } = listOf();
    await recordAdded(records, repository('early'));
    const added = await listAdded(records);
    await recordAdded(records, repository('late/one'));
    await writeList(records, [[repository('early')]], added);
    expect(await names(list)).toEqual(['early', 'late/one']);
    expect(await listAdded(records)).toHaveLength(1);
  });

  it('replaces the list before it, with all its records', async () => {
    const { records, list } = listOf();
    for (const pages of [[stored.slice(0, 3), stored.slice(3)], [stored.slice(0, 1)]]) {
      await writeList(records, pages, []);
    }
    expect(await names(list)).toEqual(['a']);
    expect(records.records.size).toBe(2);
  });

  it.each([
    ['no JSON', 'x'],
    ['no list', '{}'],
    ['a part without a key', '[["a"]]'],
    ['a record that is no part', '[["a", "cluster.json"]]'],
  ])('is looked for in the folders while its record holds %s', async (_title, text) => {
    const { records, folders, list } = listOf();
    await records.writeRecord('content/repositories.json', Buffer.from(text));
    expect(await names(list)).toEqual(stored);
    expect(folders.began[0]).toBeUndefined();
  });

  it('is continued in the folders where a part is no longer there', async () => {
    const { records, folders, list } = listOf();
    await writeList(records, [stored.slice(0, 2), stored.slice(2)], []);
    const [, second = ''] = [...records.records.keys()].filter((key) => /repositories\/./.test(key));
    await records.removeRecord(second);
    expect(await names(list)).toEqual(stored);
    expect(folders.began[0]).toBe('b');
  });
});

describe('a walk through the folders', () => {
  it('serves all callers that ask for the same at the same time', async () => {
    const { folders, list } = listOf();
    const found = await Promise.all(Array.from({ length: 8 }, () => names(list)));
    expect(found).toEqual(Array.from({ length: 8 }, () => stored));
    expect(folders.began).toEqual([undefined, 'b', 'd']);
  });

  it('waits until the walk before it has ended', async () => {
    const { folders, list } = listOf();
    await Promise.all([1, 2, 3, 4].map((limit) => names(list, undefined, limit)));
    expect(folders.most).toBe(1);
  });

  it('ends when its last caller leaves', async () => {
    const { folders, list } = listOf();
    const gate = Promise.withResolvers<void>();
    folders.gate = gate.promise;
    const callers = [new AbortController(), new AbortController()];
    const waiting = callers.map((caller) => names(list, undefined, 2, caller.signal));
    await expect.poll(() => folders.running).toBe(1);
    for (const caller of callers) caller.abort(new Error('left'));
    for (const each of waiting) await expect(each).rejects.toThrow('left');
    await expect.poll(() => folders.running).toBe(0);
    gate.resolve();
    expect(await names(list)).toEqual(stored);
    expect(folders.began).toEqual([undefined, undefined, 'b', 'd']);
  });
});
