import { pino } from 'pino';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { MemoryRecords } from '../../test/fakes/memory-records.js';
import { digestOf } from '../oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../oci/name.js';
import { imageText, InUseRecords, parseImage, type InUseSource } from './in-use.js';
import type { InUse } from './usage.js';

const hourMs = 3_600_000;
const repository = parseRepository('ghcr.io/team/app') as Repository;
const digest = digestOf(Buffer.from('image'));
const byDigest = imageText(repository, digest);
const byTag = imageText(repository, parseTag('1.2') as Tag);

let store: MemoryRecords;
let skipped: string[] = [];
const warn = vi.fn();
const log = Object.assign(pino({ level: 'silent' }), { warn });
const inUse = (...sources: InUseSource[]): InUseRecords => new InUseRecords(store, sources, hourMs, log);

async function imagesOf(records: InUseRecords): Promise<InUse[]> {
  const images: InUse[] = [];
  const skip = async (record: string): Promise<void> => void skipped.push(record);
  for await (const page of records.images(new AbortController().signal, skip)) images.push(...page);
  return images;
}

beforeEach(() => {
  store = new MemoryRecords();
  skipped = [];
  warn.mockClear();
});

describe('what runs somewhere', () => {
  it('is read as it was written, by digest and by tag, also by who did not write it', async () => {
    await inUse('kubernetes').write('kubernetes', 'c', Date.now(), [byDigest, byTag]);
    const other = inUse('kubernetes', 'docker');
    expect(await imagesOf(other)).toEqual([
      { repository, reference: digest },
      { repository, reference: '1.2' },
    ]);
    expect(await other.read('kubernetes', 'c')).toEqual(new Set([byDigest, byTag]));
    expect(await other.read('kubernetes', 'another')).toBeUndefined();
  });

  it('is that of all clusters and engines', async () => {
    const records = inUse('kubernetes', 'docker');
    await records.write('kubernetes', 'one', Date.now(), [byDigest]);
    await records.write('kubernetes', 'two', Date.now(), [byTag]);
    await records.write('docker', 'engine', Date.now(), [byTag]);
    expect(await imagesOf(records)).toHaveLength(3);
  });

  it('counts no longer once its source is not configured any more', async () => {
    await inUse('docker').write('docker', 'engine', Date.now(), [byDigest]);
    expect(await imagesOf(inUse('kubernetes'))).toEqual([]);
    expect(await imagesOf(inUse())).toEqual([]);
  });

  it('lapses when it was last seen too long ago, which is said once', async () => {
    const records = inUse('kubernetes');
    await records.write('kubernetes', 'c', Date.now() - hourMs - 2_000, [byDigest]);
    expect(await imagesOf(records)).toEqual([]);
    expect(await imagesOf(records)).toEqual([]);
    expect(warn).toHaveBeenCalledTimes(1);
    expect(await records.unknown()).toBeUndefined();
    await records.write('kubernetes', 'c', Date.now(), [byDigest]);
    expect(await imagesOf(records)).toHaveLength(1);
  });

  it('is known when every source has told, and from the beginning where there is none', async () => {
    expect(await inUse().unknown()).toBeUndefined();
    const records = inUse('kubernetes', 'docker');
    await records.write('kubernetes', 'c', Date.now(), []);
    expect(await records.unknown()).toContain('scheduler.inuse');
    await records.write('docker', 'engine', Date.now(), []);
    expect(await records.unknown()).toBeUndefined();
  });

  it.each([
    ['is damaged', 'seen now\n'],
    ['has a damaged line', `seen 9999999999\n${byDigest}\n???\n`],
    ['is empty', ''],
    ['cannot be read', undefined],
  ])(
    'is not known while a record of it %s, so that nothing it may protect is deleted',
    async (_what, text) => {
      const records = inUse('kubernetes');
      await records.write('kubernetes', 'sound', Date.now(), [byTag]);
      expect(await records.unknown()).toBeUndefined();
      const key = 'inuse/kubernetes/other';
      store.records.set(key, Buffer.from(text ?? ''));
      if (text === undefined) store.unreadable.add(key);
      expect((await imagesOf(records)).map(({ reference }) => reference)).toContain('1.2');
      expect(skipped).toEqual([key]);
      expect(await records.unknown()).toContain(key);
      expect(await inUse('kubernetes').unknown()).toContain(key);
      expect(await records.read('kubernetes', 'other')).toBeUndefined();
      store.unreadable.clear();
      await records.write('kubernetes', 'other', Date.now(), []);
      expect(await records.unknown()).toBeUndefined();
    },
  );

  it.each(['', 'app', 'app@', 'app@sha256:1', '@1', 'app:', 'app:1 2', 'App:1', 'app:t:u'])(
    'is not what nobody here has written: %j',
    (text) => {
      expect(parseImage(text)).toBeUndefined();
    },
  );
});
