import { expect, it } from 'vitest';
import { digestOf } from '../oci/digest.js';
import type { RecordStore } from '../storage/storage.js';
import { MemoryRecords } from '../../test/fakes/memory-records.js';
import { readHidden, writeHidden, type Hidden } from './content-records.js';

const many = Array.from({ length: 2_500 }, (_, n): Hidden => ({
  at: 1_763_725_200 + n,
  digest: digestOf(Buffer.from(`${n}`), 'sha256'),
}));

it('reads back in pages all that was written in pages', async () => {
  const records = new MemoryRecords();
  await writeHidden(records, [many.slice(0, 1_000), many.slice(1_000)]);
  const pages = await pagesOf(records);
  expect(pages.length).toBeGreaterThan(1);
  expect(pages.flat()).toEqual(many);
});

it('leaves no record where nothing is hidden', async () => {
  const records = new MemoryRecords();
  await writeHidden(records, [many]);
  await writeHidden(records, []);
  expect(await pagesOf(records)).toEqual([]);
});

it('divides what is too long for one record, and counts an older division no longer', async () => {
  const records = new MemoryRecords();
  const page = many.slice(0, 1_000);
  const long = Array.from({ length: 120 }, () => page);
  await writeHidden(records, long);
  await writeHidden(records, long);
  const sizes = [...records.records.values()].map(({ byteLength }) => byteLength);
  expect(sizes).toHaveLength(2);
  expect(Math.max(...sizes)).toBeLessThan(9 * 1024 * 1024);
  expect((await pagesOf(records)).flat()).toHaveLength(120_000);
});

it('goes on past a record that cannot be read', async () => {
  const records = new MemoryRecords();
  await writeHidden(
    records,
    Array.from({ length: 120 }, () => many.slice(0, 1_000)),
  );
  const [key = ''] = await records.listRecords('content/hidden-more/');
  records.unreadable.add(key);
  const skipped: string[] = [];
  const pages: (readonly Hidden[])[] = [];
  for await (const page of readHidden(records, async (record) => void skipped.push(record))) pages.push(page);
  expect(skipped).toEqual([key]);
  expect(pages.flat().length).toBeGreaterThan(0);
});

it('passes by lines that it does not understand', async () => {
  const [{ at, digest } = expect.fail()] = many;
  const records = new MemoryRecords();
  await records.writeRecord(
    'content/hidden',
    Buffer.from(`soon ${digest}\n${at} sha256:12\n\n${at} ${digest}\n`),
  );
  expect(await pagesOf(records)).toEqual([[{ at, digest }]]);
});

const failing = (_record: string, error: Error): Promise<void> => Promise.reject(error);

async function pagesOf(records: RecordStore): Promise<(readonly Hidden[])[]> {
  const pages: (readonly Hidden[])[] = [];
  for await (const page of readHidden(records, failing)) pages.push(page);
  return pages;
}
