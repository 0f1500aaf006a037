import { createServer } from 'node:http';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import type { Digest } from '../../src/oci/digest.js';
import { Bucket } from '../../src/storage/s3/bucket.js';
import { MultipartUpload, sendWhole } from '../../src/storage/s3/multipart.js';
import type { VerifiedFile } from '../../src/storage/storage.js';
import { LoopbackServer } from '../fakes/loopback-server.js';
import { temporaryFolder } from '../parts/folder.js';

const size = 5 * 1024 * 1024;
const begun = '<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>';

/** A bucket that takes every request, and a file that has less than the `size` bytes that it should have. */
async function bucketAndShortFile() {
  await using cleanup = new AsyncDisposableStack();
  const folder = cleanup.use(await temporaryFolder());
  const server = cleanup.use(
    new LoopbackServer(() =>
      createServer((request, response) => {
        request.on('error', () => undefined); // the upload is cut
        request.resume().once('end', () => response.end(request.method === 'POST' ? begun : ''));
      }),
    ),
  );
  await server.up();
  const yaml = `version: 0.1
storage: {s3: {region: r, bucket: b, regionendpoint: "http://${server.host}", accesskey: a, secretkey: s}}`;
  await writeFile(join(folder.path, 'config.yml'), yaml);
  const { storage } = loadConfig({ path: 'config.yml', env: {}, cwd: folder.path }).config;
  if (storage.driver !== 's3') throw new TypeError('another driver');
  const bucket = new Bucket(storage.s3, { error: () => undefined });
  cleanup.defer(() => bucket.close());
  const path = join(folder.path, 'short');
  await writeFile(path, Buffer.alloc(size / 2));
  const file = { path, size, digest: `sha256:${'0'.repeat(64)}` as Digest } as VerifiedFile;
  const owned = cleanup.move();
  return { bucket, file, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

it('fails an upload whose file cannot be read to its end', async () => {
  await using parts = await bucketAndShortFile();
  await expect(sendWhole(parts.bucket, 'key', parts.file)).rejects.toThrow(/a file is shorter/);
});

it('fails an upload in parts whose file cannot be read to its end', async () => {
  await using parts = await bucketAndShortFile();
  const upload = new MultipartUpload(parts.bucket, 'key', parts.file.path, size);
  await expect(upload.complete(parts.file)).rejects.toThrow(/a file is shorter/);
});
