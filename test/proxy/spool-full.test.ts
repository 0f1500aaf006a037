import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacks } from '../parts/debian.js';
import { type TemporaryFolder, temporaryFolder } from '../parts/folder.js';
import { contentOf } from '../parts/image.js';
import {
  blobOf,
  expectSpecError,
  metric,
  type Mirror,
  soundStore,
  startMirror,
  untilIdle,
} from '../parts/mirror.js';
import { runSuccessfully } from '../parts/process.js';
import { receivesAll } from '../parts/replicas.js';

const MiB = 1024 * 1024;
const room = 160;

describe.skipIf(lacks('root'))('a file system for spools that is full', () => {
  let folder: TemporaryFolder;
  let spools: string;
  let mirror: Mirror;
  beforeAll(async () => {
    folder = await temporaryFolder();
    spools = join(folder.path, 'spools');
    await mkdir(spools);
    await runSuccessfully('mount', ['-t', 'tmpfs', '-o', `size=${room}m`, 'tmpfs', spools]);
    mirror = await startMirror({ proxy: { spool: { directory: spools } } });
  });
  afterAll(async () => {
    await mirror[Symbol.asyncDispose]();
    await runSuccessfully('umount', ['--lazy', spools]);
    await folder[Symbol.asyncDispose]();
  });

  it('refuses a blob that has no room, before its first byte', async () => {
    const { upstream, url } = mirror;
    const ballast = join(spools, 'ballast');
    await writeFile(ballast, Buffer.alloc((room - 2) * MiB));
    const [large, small] = [blobOf(4 * MiB, 'large'), blobOf(MiB, 'small')];
    for (const blob of [large, small]) upstream.addBlob('full', blob);
    await expectSpecError(await fetch(url(`full/blobs/${large.digest}`)), 503, 'UNAVAILABLE');
    expect(await receivesAll(url(`full/blobs/${small.digest}`), small.bytes)).toBe(true);
    await rm(ballast);
    expect(await receivesAll(url(`full/blobs/${large.digest}`), large.bytes)).toBe(true);
  });

  it('in the middle of a blob: readers get it whole with one request, memory stays flat, nothing is stored', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = contentOf('application/octet-stream', randomBytes(128 * MiB));
    const path = `middle/blobs/${blob.digest}`;
    upstream.addBlob('middle', blob);
    const go = Promise.withResolvers<void>();
    upstream.fault({ path: `/v2/${path}`, nth: 1 }, { stallAt: 8 * MiB, until: go.promise });
    const before = await metric(cistern, 'process_resident_memory_bytes');
    const readers = [1, 2, 3].map(() => receivesAll(url(path), blob.bytes));
    await upstream.until(() => upstream.bytesSent({ path: `/v2/${path}` }) >= 8 * MiB);
    const ballast = join(spools, 'ballast');
    // Somebody else takes the rest.
    await expect(writeFile(ballast, Buffer.alloc(room * MiB))).rejects.toMatchObject({ code: 'ENOSPC' });
    go.resolve();
    expect(await Promise.all(readers)).toEqual([true, true, true]);
    const after = await metric(cistern, 'process_resident_memory_bytes');
    expect(after - before).toBeLessThan(100 * MiB);
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
    await untilIdle(cistern);
    await expect.poll(() => cistern.log()).toContain('no room for a blob, passing the rest on unstored');
    expect((await soundStore(cistern.root)).blobs).not.toContain(blob.digest);
    expect(await metric(cistern, 'cistern_spool_bytes')).toBe(0);

    await rm(ballast);
    expect(await receivesAll(url(path), blob.bytes)).toBe(true);
    await untilIdle(cistern);
    expect((await soundStore(cistern.root)).blobs).toContain(blob.digest);
  });
});

describe('spools that have reached proxy.spool.maxsize', () => {
  it('pass a blob of unknown size on to its readers, and keep nothing', async () => {
    await using limited = await startMirror({ proxy: { spool: { maxsize: '4MB' } } });
    const { upstream, cistern, url } = limited;
    const blob = blobOf(16 * MiB, 'unknown');
    upstream.addBlob('unknown', blob);
    upstream.fault({ path: /blobs/ }, { chunked: true });
    expect(await receivesAll(url(`unknown/blobs/${blob.digest}`), blob.bytes)).toBe(true);
    await untilIdle(cistern);
    expect(upstream.asked({ method: 'GET' })).toHaveLength(1);
    expect((await soundStore(cistern.root)).blobs).toEqual([]);
  });
});
