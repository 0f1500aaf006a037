import { expect, it } from 'vitest';
import type { RecordStore } from '../../src/storage/storage.js';

const bytes = Buffer.from('1');

/** What every RecordStore does. `keys` looks into what is really stored, below `cistern/`. */
export function recordStoreContract(
  make: () => Promise<{ readonly store: RecordStore; readonly keys: () => Promise<string[]> }>,
): void {
  it('lists the records below a path, sorted, at any depth', async () => {
    const { store } = await make();
    expect(await store.listRecords('usage/')).toEqual([]);
    const below = ['usage/a-b/1', 'usage/a/10', 'usage/a/9', 'usage/a/b/c', 'usage/b'];
    for (const key of [...below, 'usage-of-another/1', 'cluster.json']) await store.writeRecord(key, bytes);
    expect(await store.listRecords('usage/')).toEqual(below);
    expect(await store.listRecords('usage/a/')).toEqual(['usage/a/10', 'usage/a/9', 'usage/a/b/c']);
    expect(await store.listRecords('usage/b/')).toEqual([]);
  });

  it('removes a record and nothing else, also where it is absent', async () => {
    const { store, keys } = await make();
    await store.writeRecord('jobs/journal/1', bytes);
    await store.writeRecord('jobs/journal/2', bytes);
    await store.removeRecord('jobs/journal/1');
    await store.removeRecord('jobs/journal/1');
    await store.removeRecord('nowhere/at/all');
    await store.removeRecord('jobs/journal/2/below-a-record');
    expect(await store.readRecord('jobs/journal/1')).toBeUndefined();
    expect(await store.listRecords('jobs/')).toEqual(['jobs/journal/2']);
    await store.removeRecord('jobs/journal/2');
    expect(await keys()).toEqual([]);
  });

  it('reads no record that is longer than the caller takes, or for which the caller has no room', async () => {
    const { store } = await make();
    await store.writeRecord('a/long', Buffer.from('12345'));
    await expect(store.readRecord('a/long', 4)).rejects.toMatchObject({ code: 'too-large' });
    const asked: number[] = [];
    const admit = (size: number): Promise<void> => {
      asked.push(size);
      return asked.length > 1 ? Promise.reject(new Error('no room')) : Promise.resolve();
    };
    expect((await store.readRecord('a/long', 5, admit))?.toString()).toBe('12345');
    await expect(store.readRecord('a/long', 5, admit)).rejects.toThrow('no room');
    expect(asked).toEqual([5, 5]);
  });

  it('writes, creates, lists and removes in one place at the same time', async () => {
    const { store } = await make();
    const rounds = Array.from({ length: 40 }, (_, index) => index);
    await Promise.all([
      ...rounds.map((round) => store.writeRecord(`busy/folder/${round % 4}`, bytes)),
      ...rounds.map((round) => store.removeRecord(`busy/folder/${round % 4}`)),
      ...rounds.map(() => store.listRecords('busy/')),
    ]);
    await store.writeRecord('busy/folder/last', bytes);
    expect(await store.listRecords('busy/')).toContain('busy/folder/last');
  });
}
