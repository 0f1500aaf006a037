import { S3Client } from '@aws-sdk/client-s3';
import { expect, it } from 'vitest';
import { listObjects } from './listing.js';

it('stops reading a list whose pages repeat their token', async () => {
  const client = new S3Client({ region: 'r', credentials: { accessKeyId: 'a', secretAccessKey: 'b' } });
  let pages = 0;
  client.middlewareStack.add(
    () => () => {
      pages += 1;
      const output = { $metadata: {}, IsTruncated: true, NextContinuationToken: 'again', Contents: [] };
      return Promise.resolve({ output, response: {} });
    },
    { step: 'initialize' },
  );
  const { signal } = new AbortController();
  const readAll = async (): Promise<void> => {
    for await (const _ of listObjects(client, { bucket: 'b', root: '' }, 'x/', undefined, signal));
  };
  await expect(readAll()).rejects.toMatchObject({ name: 'StorageError', code: 'io' });
  expect(pages).toBe(2);
});
