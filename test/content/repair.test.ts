import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HeadObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { describe, expect, it } from 'vitest';
import { blobPath } from '../../src/storage/layout.js';
import { cephParts, startCephRgw } from '../parts/ceph-rgw.js';
import { runCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { metric, type Mirror, sha256, startMirror, untilIdle } from '../parts/mirror.js';

const flipped = randomLayer(300_000, 'flipped');
const truncated = randomLayer(300_000, 'truncated');
const image = imageOf({ layers: [flipped, truncated, randomLayer(300_000, 'sound')] });

/** Scrubbing is soon due again and again. */
const config = {
  scheduler: { scrub: { schedule: '2s' }, expire: { schedule: 'never' }, evict: { schedule: 'never' } },
};

interface Damage {
  has(path: string): Promise<boolean>;
  write(path: string, bytes: Buffer): Promise<void>;
}

const yes = (): boolean => true;
const no = (): boolean => false;

async function fill(mirror: Mirror): Promise<void> {
  mirror.upstream.addImage('team/app', 'v1', image);
  expect((await fetch(mirror.url('team/app/manifests/v1'))).status).toBe(200);
  for (const { digest } of [image.config, ...image.layers]) await expectWhole(mirror, digest);
  await untilIdle(mirror.cistern);
}

async function expectWhole(mirror: Mirror, digest: string): Promise<void> {
  const response = await fetch(mirror.url(`team/app/blobs/${digest}`));
  expect(`sha256:${sha256(await response.bytes())}`).toBe(digest);
}

async function isSound({ cistern }: Mirror): Promise<boolean> {
  const busy = 4; // the mirror itself is scrubbing just now
  let { code } = await runCistern(['verify', 'team/app:v1', '-c', cistern.configFile]);
  while (code === busy) {
    ({ code } = await runCistern(['verify', 'team/app:v1', '-c', cistern.configFile]));
  }
  return code === 0;
}

async function expectRepair(mirror: Mirror, damage: Damage): Promise<void> {
  await fill(mirror);
  const before = mirror.upstream.asked({ method: 'GET', path: /blobs/ }).length;
  const bytes = Buffer.from(flipped.bytes);
  bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
  await damage.write(blobPath(flipped.digest), bytes);
  await damage.write(blobPath(truncated.digest), truncated.bytes.subarray(0, 100_000));

  await expect.poll(() => metric(mirror.cistern, 'cistern_rotten_total')).toBe(2);
  for (const { digest } of [flipped, truncated]) expect(await damage.has(blobPath(digest))).toBe(false);
  for (const { digest } of [image.config, ...image.layers]) await expectWhole(mirror, digest);
  await untilIdle(mirror.cistern);
  expect(mirror.upstream.asked({ method: 'GET', path: /blobs/ })).toHaveLength(before + 2);
}

describe('scrubbing finds a flipped byte and a truncated blob, drops them, and the next pull repairs them', () => {
  it('in a folder', async () => {
    await using mirror = await startMirror({ config, proxy: { host: 'example.com' } });
    const { root } = mirror.cistern;
    await expectRepair(mirror, {
      has: (path) => access(join(root, path)).then(yes, no),
      write: (path, bytes) => writeFile(join(root, path), bytes),
    });
    expect(await isSound(mirror)).toBe(true);
  });

  it.skipIf(lacks(...cephParts))('in a bucket', async () => {
    await using rgw = await startCephRgw();
    const bucket = await rgw.newBucket();
    await using folder = await temporaryFolder();
    await using mirror = await startMirror({
      config: { ...config, storage: { s3: rgw.settings(bucket), redirect: { disable: true } } },
      proxy: { host: 'example.com', spool: { directory: join(folder.path, 'spool') } },
    });
    const at = (path: string) => ({ Bucket: bucket, Key: path.replace(/^\//, '') });
    await expectRepair(mirror, {
      // A rotten object stays for clients that hold its address.
      has: async (path) =>
        (await rgw.client.send(new HeadObjectCommand(at(path)))).Metadata?.['cistern'] !== 'rotten',
      write: async (path, bytes) => {
        await rgw.client.send(new PutObjectCommand({ ...at(path), Body: bytes }));
      },
    });
    expect(await isSound(mirror)).toBe(true);
  });
});
