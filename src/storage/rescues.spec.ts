import { afterEach, describe, expect, it, vi } from 'vitest';
import { digestOf } from '../oci/digest.js';
import { Rescues } from './rescues.js';
import type { RecordStore } from './storage.js';

const digest = digestOf(Buffer.from('content'));
const signal = new AbortController().signal;

function opened(): { records: Map<string, Uint8Array>; rescues: Rescues } {
  const records = new Map<string, Uint8Array>();
  const store: Partial<RecordStore> = {
    readRecord: (key) => Promise.resolve(records.has(key) ? Buffer.from(records.get(key) ?? []) : undefined),
    writeRecord: (key, bytes) => Promise.resolve(void records.set(key, bytes)),
    listRecords: (below) => Promise.resolve([...records.keys()].filter((key) => key.startsWith(below))),
    removeRecord: (key) => Promise.resolve(void records.delete(key)),
  };
  return { records, rescues: new Rescues(store as RecordStore) };
}

describe('rule 8: a note that content was linked anew', () => {
  afterEach(() => vi.useRealTimers());

  it('is seen by every deletion that is announced later, which it does not wait for', async () => {
    const { rescues } = opened();
    await rescues.note(digest);
    await using _deletion = await rescues.announceDeletion();
    expect(await rescues.list()).toEqual([digest]);
    await rescues.forget(0, signal);
    expect(await rescues.list()).toEqual([digest]);
  });

  it('is only there when a deletion that was announced before is over', async () => {
    const { rescues } = opened();
    const order: string[] = [];
    const deletion = await rescues.announceDeletion();
    const noted = rescues.note(digest).then(() => order.push('looks'));
    await vi.waitFor(async () => expect(await rescues.list()).toEqual([digest]));
    order.push('deleted');
    await deletion[Symbol.asyncDispose]();
    await noted;
    expect(order).toEqual(['deleted', 'looks']);
  });

  it('waits for a dead replica’s deletion no longer than that could last', async () => {
    vi.useFakeTimers();
    const { records, rescues } = opened();
    const deletion = await rescues.announceDeletion();
    const noted = rescues.note(digest);
    await vi.advanceTimersByTimeAsync(10_001);
    expect(deletion.inTime()).toBe(false);
    await vi.advanceTimersByTimeAsync(20_000);
    await noted;
    expect([...records.keys()].filter((key) => key.startsWith('deleting/'))).toEqual([]);
  });

  it('is forgotten when it is old, as is what a dead replica announced', async () => {
    const { records, rescues } = opened();
    await rescues.announceDeletion();
    await rescues.forget(Date.now() / 1000 + 1, signal);
    expect(records.size).toBe(0);
  });
});
