import { expect, it } from 'vitest';
import { digestOf } from '../oci/digest.js';
import type { RecordStore } from '../storage/storage.js';
import { readHidden, writeHidden, type Hidden } from './content-records.js';

const many = Array.from({ length: 2_500 }, (_, n): Hidden => [
  1_763_725_200 + n,
  digestOf(Buffer.from(`${n}`), 'sha256'),
]);

it('reads back in pages all that was written in pages', async () => {
  const records = inMemory();
  await writeHidden(records, [many.slice(0, 1_000), many.slice(1_000)]);
  const pages = await pagesOf(records);
  expect(pages.length).toBeGreaterThan(1);
  expect(pages.flat()).toEqual(many);
});

it('leaves no record where nothing is hidden', async () => {
  const records = inMemory();
  await writeHidden(records, [many]);
  await writeHidden(records, []);
  expect(await pagesOf(records)).toEqual([]);
});

it('passes by lines that it does not understand', async () => {
  const [[at, digest] = expect.fail()] = many;
  const records = inMemory();
  await records.writeRecord(
    'content/hidden',
    Buffer.from(`soon ${digest}\n${at} sha256:12\n\n${at} ${digest}\n`),
  );
  expect(await pagesOf(records)).toEqual([[[at, digest]]]);
});

async function pagesOf(records: RecordStore): Promise<(readonly Hidden[])[]> {
  const pages: (readonly Hidden[])[] = [];
  for await (const page of readHidden(records)) pages.push(page);
  return pages;
}

function inMemory(): RecordStore {
  const records = new Map<string, Buffer>();
  const unused = (): never => expect.fail('not asked for here');
  return {
    readRecord: async (key) => records.get(key),
    writeRecord: async (key, bytes) => void records.set(key, Buffer.from(bytes)),
    removeRecord: async (key) => void records.delete(key),
    createRecord: unused,
    adopt: unused,
    listRecords: unused,
  };
}
