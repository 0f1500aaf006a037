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
const warn = vi.fn();
const log = Object.assign(pino({ level: 'silent' }), { warn });
const inUse = (...sources: InUseSource[]): InUseRecords => new InUseRecords(store, sources, hourMs, log);

async function imagesOf(records: InUseRecords): Promise<InUse[]> {
  const images: InUse[] = [];
  for await (const page of records.images(new AbortController().signal)) images.push(...page);
  return images;
}

beforeEach(() => {
  store = new MemoryRecords();
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
    expect(await records.areKnown()).toBe(true);
    await records.write('kubernetes', 'c', Date.now(), [byDigest]);
    expect(await imagesOf(records)).toHaveLength(1);
  });

  it('is known when every source has told, and from the beginning where there is none', async () => {
    expect(await inUse().areKnown()).toBe(true);
    const records = inUse('kubernetes', 'docker');
    await records.write('kubernetes', 'c', Date.now(), []);
    expect(await records.areKnown()).toBe(false);
    await records.write('docker', 'engine', Date.now(), []);
    expect(await records.areKnown()).toBe(true);
  });

  it.each(['', 'app', 'app@', 'app@sha256:1', '@1', 'app:', 'app:1 2', 'App:1', 'app:t:u'])(
    'is not what nobody here has written: %j',
    (text) => {
      expect(parseImage(text)).toBeUndefined();
    },
  );
});
