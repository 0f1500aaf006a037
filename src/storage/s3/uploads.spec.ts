import { type ListMultipartUploadsCommandOutput, S3Client } from '@aws-sdk/client-s3';
import { expect, it } from 'vitest';
import type { S3Config } from '../../config/config.js';
import { Objects } from './objects.js';
import { type Unfinished, Uploads } from './uploads.js';

async function all(uploads: AsyncIterable<Unfinished>): Promise<Unfinished[]> {
  const found: Unfinished[] = [];
  for await (const upload of uploads) found.push(upload);
  return found;
}

type Page = Omit<ListMultipartUploadsCommandOutput, '$metadata'>;

/** Uploads of a server whose list has these pages, and what it is asked for. */
function listing(page: (asked: number) => Page) {
  const client = new S3Client({ region: 'r', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } });
  const asked: unknown[] = [];
  client.middlewareStack.add(
    () =>
      ({ input }) => {
        asked.push(input);
        return Promise.resolve({ output: { $metadata: {}, ...page(asked.length) }, response: {} });
      },
    { step: 'initialize' },
  );
  const objects = new Objects({ bucket: 'b', rootdirectory: 'root' } as S3Config);
  return { asked, unfinished: new Uploads(client, objects).unfinished('x/') };
}

const upload = (key: string) => ({ Key: `root/x/${key}`, UploadId: `of ${key}` });

it('lists unfinished uploads of all pages, each from the markers of the one before', async () => {
  const { asked, unfinished } = listing((number) =>
    number === 1
      ? { Uploads: [upload('1')], IsTruncated: true, NextKeyMarker: 'k', NextUploadIdMarker: 'u' }
      : { Uploads: [upload('2')], IsTruncated: false },
  );
  expect((await all(unfinished)).map(({ key, uploadId }) => [key, uploadId])).toEqual([
    ['x/1', 'of 1'],
    ['x/2', 'of 2'],
  ]);
  const below = { Bucket: 'b', Prefix: 'root/x/' };
  expect(asked).toEqual([below, { ...below, KeyMarker: 'k', UploadIdMarker: 'u' }]);
});

it('continues through the uploads of one key, whose pages differ in the second marker alone', async () => {
  const { unfinished } = listing((number) => ({
    Uploads: [upload('same')],
    IsTruncated: number < 3,
    NextKeyMarker: 'same',
    NextUploadIdMarker: `${number}`,
  }));
  expect(await all(unfinished)).toHaveLength(3);
});

it('ends a list of uploads whose pages repeat their markers', async () => {
  const { asked, unfinished } = listing(() => ({
    Uploads: [upload('1')],
    IsTruncated: true,
    NextKeyMarker: 'k',
    NextUploadIdMarker: 'u',
  }));
  await expect(all(unfinished)).rejects.toMatchObject({ name: 'StorageError', code: 'io' });
  expect(asked).toHaveLength(2);
});
