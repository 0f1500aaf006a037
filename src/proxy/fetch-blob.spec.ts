import { describe, expect, it } from 'vitest';
import { digestOf } from '../oci/digest.js';
import type { Route } from '../upstream/directory.js';
import { fetchBlob } from './fetch-blob.js';
import type { BlobAnswer } from './proxy.js';

const digest = digestOf(Buffer.from('content'));

describe('fetchBlob', () => {
  it('stops after a few tries when the store never keeps the blob', async () => {
    let opened = 0;
    const blobs = {
      open: (): Promise<BlobAnswer> => {
        opened += 1;
        if (opened > 100) return Promise.reject(new Error('opened without end'));
        const body = (async function* () {})();
        return Promise.resolve({
          size: 7,
          range: undefined,
          outcome: 'miss',
          body,
          close: () => Promise.resolve(),
        });
      },
    };
    const fetching = fetchBlob(
      { blobs, transfers: { get: () => undefined } },
      {} as Route,
      digest,
      new AbortController().signal,
    );
    await expect(fetching).rejects.toMatchObject({ name: 'StorageError', code: 'io' });
    expect(opened).toBeLessThan(10);
  });
});
