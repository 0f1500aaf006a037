import { chmod, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blobPath } from '../../src/storage/layout.js';
import { receive } from '../fakes/slow-client.js';
import { cephParts, type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import { startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import type { Content } from '../parts/image.js';
import {
  blobOf,
  expectSpecError,
  metric,
  type Mirror,
  sha256,
  soundStore,
  startMirror,
  untilIdle,
} from '../parts/mirror.js';
import { S3Counter } from '../parts/s3-counter.js';

/** A file of the system that no user may open for reading, not even root. */
const writeOnly = { path: '/sys/bus/cpu/uevent', size: 4096 };
/** The most storage failures for one request: it opens the blob twice, and a transfer checks whether it is stored. */
const mostFailures = 6;

/** After this, stat of the blob succeeds and open fails with EACCES. */
async function makeUnreadable(file: string): Promise<void> {
  if (process.getuid?.() !== 0) return chmod(file, 0o000);
  await rm(file);
  await symlink(writeOnly.path, file);
}

async function pull(mirror: Mirror, path: string, blob: Content): Promise<void> {
  const answer = await fetch(mirror.url(path)); // follows a redirect into the bucket
  expect({ status: answer.status, content: sha256(await answer.bytes()) }).toEqual({
    status: 200,
    content: sha256(blob.bytes),
  });
  await untilIdle(mirror.cistern);
}

const failures = ({ cistern }: Pick<Mirror, 'cistern'>) => metric(cistern, 'cistern_storage_failures_total');

describe('a file that cannot be opened', () => {
  /** A mirror with a stored blob whose file has become unreadable. */
  async function startUnreadable() {
    const mirror = await startMirror();
    const blob = blobOf(writeOnly.size, 'unreadable');
    const path = `o/app/blobs/${blob.digest}`;
    mirror.upstream.addBlob('o/app', blob);
    await pull(mirror, path, blob);
    await makeUnreadable(join(mirror.cistern.root, blobPath(blob.digest)));
    mirror.upstream.requests.length = 0;
    const gets = () => mirror.upstream.asked({ method: 'GET', path: `/v2/${path}` });
    return { ...mirror, blob, path, gets };
  }

  it('is fetched from the upstream once, and replaced', async () => {
    await using mirror = await startUnreadable();
    for (let pulls = 0; pulls < 3; pulls += 1) await pull(mirror, mirror.path, mirror.blob);
    expect(mirror.gets()).toHaveLength(1);
    await soundStore(mirror.cistern.root);
    expect(await failures(mirror)).toBeLessThanOrEqual(mostFailures);
  });

  it('is fetched by one transfer for many concurrent clients', async () => {
    await using mirror = await startUnreadable();
    const path = mirror.url(mirror.path);
    const answers = await Promise.all(Array.from({ length: 30 }, () => receive(path)));
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 200, sha256: sha256(mirror.blob.bytes) });
    }
    expect(mirror.gets()).toHaveLength(1);
    expect(await failures(mirror)).toBeLessThanOrEqual(30 * mostFailures);
  });

  it('causes an error of the specification after a few tries while the upstream is away', async () => {
    await using mirror = await startUnreadable();
    await mirror.upstream.down();
    await expectSpecError(await fetch(mirror.url(mirror.path)), 503, 'UNAVAILABLE');
    expect(await failures(mirror)).toBeLessThanOrEqual(mostFailures);
  });

  it('is not tried again after the client disconnects', async () => {
    await using mirror = await startUnreadable();
    mirror.upstream.fault({ method: 'GET' }, { hang: true });
    const client = new AbortController();
    const asked = fetch(mirror.url(mirror.path), { signal: client.signal });
    await expect.poll(() => mirror.gets()).toHaveLength(1);
    client.abort();
    await expect(asked).rejects.toThrow(/abort/);
    expect(await failures(mirror)).toBeLessThanOrEqual(mostFailures);
  });

  it('causes an error of the specification in a mirror without an upstream', async () => {
    await using folder = await temporaryFolder();
    const blob = blobOf(writeOnly.size, 'unreadable');
    const path = `o/app/blobs/${blob.digest}`;
    {
      await using mirror = await startMirror({ root: folder.path });
      mirror.upstream.addBlob('o/app', blob);
      await pull(mirror, path, blob);
    }
    await makeUnreadable(join(folder.path, blobPath(blob.digest)));
    await using cistern = await startCistern({ root: folder.path });
    await expectSpecError(await fetch(`${cistern.url}/v2/${path}`), 503, 'UNAVAILABLE');
    expect(await failures({ cistern })).toBeLessThanOrEqual(mostFailures);
  });
});

describe.skipIf(lacks(...cephParts))('an object whose HEAD succeeds and whose GET fails', () => {
  let rgw: CephRgw;
  beforeAll(async () => {
    rgw = await startCephRgw();
  });
  afterAll(async () => {
    await rgw?.[Symbol.asyncDispose]();
  });

  it.each([
    { redirect: false, storageClass: undefined, size: 300_000 },
    { redirect: false, storageClass: 'GLACIER', size: 300_000 },
    { redirect: true, storageClass: 'DEEP_ARCHIVE', size: 300_000 },
    { redirect: false, storageClass: undefined, size: 6_000_000 },
  ])(
    'is fetched from the upstream once, and replaced (redirect: $redirect, class: $storageClass, $size bytes)',
    async ({ redirect, storageClass, size }) => {
      await using folder = await temporaryFolder();
      await using front = await S3Counter.start(rgw.regionendpoint);
      const bucket = await rgw.newBucket();
      const s3 = rgw.settings(bucket, { regionendpoint: front.url });
      const start = (spool: string): Promise<Mirror> =>
        startMirror({
          config: { storage: { s3, redirect: { disable: !redirect } } },
          proxy: { spool: { directory: join(folder.path, spool) } },
        });
      const blob = blobOf(size, 'archived');
      const path = `o/app/blobs/${blob.digest}`;
      {
        await using first = await start('first');
        first.upstream.addBlob('o/app', blob);
        await pull(first, path, blob);
      }
      let archived = true;
      front.storageClass = storageClass;
      front.isArchived = (request) => {
        // A write replaces the archived object.
        if (request.path.includes(blobPath(blob.digest)) && request.method === 'PUT') archived = false;
        return archived && request.path.includes(blobPath(blob.digest));
      };
      await using mirror = await start('second');
      mirror.upstream.addBlob('o/app', blob);
      for (let pulls = 0; pulls < 3; pulls += 1) await pull(mirror, path, blob);
      expect(mirror.upstream.asked({ method: 'GET', path: `/v2/${path}` })).toHaveLength(1);
      expect(await failures(mirror)).toBeLessThanOrEqual(mostFailures);
    },
  );
});
