import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { digestOf, type Digest } from '../oci/digest.js';
import { RangeUnsatisfiable, resolveRange, type RequestedRange } from '../oci/range.js';
import type { Logger } from '../telemetry/log.js';
import { Metrics } from '../telemetry/metrics.js';
import { LocalCopies, type LocalCopiesOptions } from './local-copies.js';
import { Spool } from './spool.js';
import {
  StorageError,
  type BlobStore,
  type OpenBlob,
  type UploadsEarly,
  type VerifiedFile,
} from './storage.js';

const mebibyte = 1024 * 1024;

/** A store that counts what it is asked. */
class FarStore implements BlobStore, UploadsEarly {
  readonly blobs = new Map<Digest, Buffer>();
  opened = 0;
  looked = 0;
  failure: StorageError | undefined;

  add(size: number): { digest: Digest; bytes: Buffer } {
    const bytes = randomBytes(size);
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return { digest, bytes };
  }

  stat(digest: Digest): Promise<number | undefined> {
    this.looked += 1;
    return Promise.resolve(this.blobs.get(digest)?.byteLength);
  }

  open(digest: Digest, requested?: RequestedRange): Promise<OpenBlob | undefined> {
    this.opened += 1;
    const bytes = this.blobs.get(digest);
    if (bytes === undefined) return Promise.resolve(undefined);
    const range = requested && resolveRange(requested, bytes.byteLength);
    const part = range === undefined ? bytes : bytes.subarray(range.start, range.end + 1);
    return Promise.resolve({
      size: bytes.byteLength,
      range,
      body: inChunks(part),
      close: () => Promise.resolve(),
    });
  }

  read(digest: Digest): Promise<Buffer | undefined> {
    return Promise.resolve(this.blobs.get(digest));
  }

  renew(digest: Digest): Promise<number | undefined> {
    return this.stat(digest);
  }

  put(digest: Digest, bytes: Uint8Array): Promise<void> {
    this.blobs.set(digest, Buffer.from(bytes));
    return Promise.resolve();
  }

  take(file: VerifiedFile): Promise<void> {
    return this.failure === undefined ? rm(file.path) : Promise.reject(this.failure);
  }

  begin(): ReturnType<UploadsEarly['begin']> {
    return { grown: () => undefined, complete: (file) => this.take(file), abort: () => Promise.resolve() };
  }
}

async function* inChunks(bytes: Buffer): AsyncGenerator<Uint8Array> {
  const memory = Buffer.alloc(100_000);
  for (let start = 0; start < bytes.byteLength; start += memory.byteLength) {
    const length = bytes.copy(memory, 0, start);
    yield memory.subarray(0, length);
    memory.fill(0, 0, length); // it is used again
    await Promise.resolve();
  }
}

let folder: string;
let store: FarStore;
let metrics: Metrics;
const log = { warn: vi.fn(), error: vi.fn() };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cistern-copies-'));
  store = new FarStore();
  metrics = new Metrics();
  vi.resetAllMocks();
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

function copiesOf(changes: Partial<LocalCopiesOptions> = {}): LocalCopies {
  let made = 0;
  return new LocalCopies(store, {
    newFile: () => Promise.resolve(join(folder, `${(made += 1)}`)),
    freeBytes: () => Promise.resolve(undefined),
    maxBytes: 100 * mebibyte,
    lifetimeMs: 60_000,
    log: log as unknown as Logger,
    metrics,
    ...changes,
  });
}

async function readAll(
  copies: LocalCopies,
  digest: Digest,
  range?: RequestedRange,
): Promise<Buffer | undefined> {
  const opened = await copies.open(digest, range);
  if (opened === undefined) return undefined;
  const chunks: Buffer[] = [];
  for await (const chunk of opened.body) chunks.push(Buffer.from(chunk));
  await opened.close();
  await copies.settled();
  return Buffer.concat(chunks);
}

async function verifiedFile(bytes: Buffer): Promise<VerifiedFile> {
  const spool = await Spool.create(digestOf(bytes), join(folder, 'spool'));
  await spool.append(bytes);
  spool.verify(bytes.byteLength);
  const file = await spool.toFile();
  await spool.release();
  return file;
}

async function reads(result: 'hit' | 'miss'): Promise<number> {
  const { values } = await metrics.localCopyReads.get();
  return values.find(({ labels }) => labels.result === result)?.value ?? 0;
}

async function bytesTold(): Promise<number | undefined> {
  return (await metrics.localCopiesBytes.get()).values[0]?.value;
}

describe('local copies of a store', () => {
  it('read a blob from the store once', async () => {
    const copies = copiesOf();
    const { digest, bytes } = store.add(3 * mebibyte + 17);
    for (let times = 0; times < 3; times += 1)
      expect((await readAll(copies, digest))?.equals(bytes)).toBe(true);
    expect([store.opened, store.looked]).toEqual([1, 0]);
    expect([await reads('miss'), await reads('hit')]).toEqual([1, 2]);
    expect(await bytesTold()).toBe(bytes.byteLength);
  });

  it('give ranges, and say which there are not', async () => {
    const copies = copiesOf();
    const { digest, bytes } = store.add(2 * mebibyte);
    expect((await readAll(copies, digest, { start: 5, end: 9 }))?.equals(bytes.subarray(5, 10))).toBe(true);
    expect(await readdir(folder)).toEqual([]); // a part is no copy
    await readAll(copies, digest);
    expect((await readAll(copies, digest, { last: 1000 }))?.equals(bytes.subarray(-1000))).toBe(true);
    await expect(copies.open(digest, { start: 2 * mebibyte, end: undefined })).rejects.toThrow(
      RangeUnsatisfiable,
    );
    expect(store.opened).toBe(2);
  });

  it('leave small blobs to the store', async () => {
    const copies = copiesOf();
    const { digest } = store.add(mebibyte - 1);
    await readAll(copies, digest);
    await readAll(copies, digest);
    expect(store.opened).toBe(2);
    expect(await readdir(folder)).toEqual([]);
  });

  it('give nothing that the store, asked in time, has no more', async () => {
    const copies = copiesOf({ lifetimeMs: 0 });
    const { digest } = store.add(mebibyte);
    await readAll(copies, digest);
    expect(await readAll(copies, digest)).toBeDefined();
    expect([store.opened, store.looked]).toEqual([1, 1]);
    store.blobs.delete(digest);
    expect(await readAll(copies, digest)).toBeUndefined();
    await expect.poll(() => readdir(folder)).toEqual([]);
    expect(await bytesTold()).toBe(0);
  });

  it('tell what is wrong with the store when it has to be asked', async () => {
    const copies = copiesOf({ lifetimeMs: 0 });
    const { digest } = store.add(mebibyte);
    await readAll(copies, digest);
    const away = new StorageError('io', 'away');
    vi.spyOn(store, 'stat').mockRejectedValue(away);
    await expect(copies.open(digest)).rejects.toBe(away);
  });

  it.each(['at once', 'early'])('have what was fetched and is taken by the store (%s)', async (way) => {
    const copies = copiesOf();
    const bytes = randomBytes(mebibyte);
    const file = await verifiedFile(bytes);
    await (way === 'early' ? copies.begin(file.digest, file.path).complete(file) : copies.take(file));
    expect((await readAll(copies, file.digest))?.equals(bytes)).toBe(true);
    expect(store.opened).toBe(0);
  });

  it('have nothing of what the store did not take', async () => {
    const copies = copiesOf();
    const file = await verifiedFile(randomBytes(mebibyte));
    store.failure = new StorageError('full', 'full');
    await expect(copies.take(file)).rejects.toBe(store.failure);
    expect(await readdir(folder)).toEqual(['spool']);
    expect(await readAll(copies, file.digest)).toBeUndefined();
  });

  it('have nothing of what was not read to its end', async () => {
    const copies = copiesOf();
    const { digest } = store.add(mebibyte);
    const opened = await copies.open(digest);
    for await (const _ of opened?.body ?? []) break;
    await opened?.close();
    await copies.settled();
    expect(await readdir(folder)).toEqual([]);
    await (await copies.open(digest))?.close(); // not read at all
    await copies.settled();
    expect(await readdir(folder)).toEqual([]);
    expect(log.error).not.toHaveBeenCalled(); // nothing is wrong with the store
  });

  it('have nothing of what is not what its digest says, and say so', async () => {
    const copies = copiesOf();
    const { digest, bytes } = store.add(mebibyte);
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    await readAll(copies, digest);
    expect(await readdir(folder)).toEqual([]);
    expect(log.error).toHaveBeenCalledOnce();
  });

  it('copy a blob once, however many read it', async () => {
    const copies = copiesOf();
    const { digest, bytes } = store.add(2 * mebibyte);
    const all = await Promise.all([1, 2, 3].map(() => readAll(copies, digest)));
    expect(all.every((got) => got?.equals(bytes))).toBe(true);
    expect(await readdir(folder)).toHaveLength(1);
    expect(await bytesTold()).toBe(2 * mebibyte);
  });

  it('drop the least recently used', async () => {
    const copies = copiesOf({ maxBytes: 5 * mebibyte });
    const [first, second, third] = [
      store.add(2 * mebibyte),
      store.add(2 * mebibyte),
      store.add(2 * mebibyte),
    ];
    await readAll(copies, first.digest);
    await readAll(copies, second.digest);
    await readAll(copies, first.digest);
    await readAll(copies, third.digest);
    await expect.poll(() => readdir(folder)).toHaveLength(2);
    store.opened = 0;
    for (const { digest } of [first, third]) await readAll(copies, digest);
    expect(store.opened).toBe(0);
    await readAll(copies, second.digest);
    expect(store.opened).toBe(1);
  });

  it('make no copy that is larger than all may be', async () => {
    const copies = copiesOf({ maxBytes: 2 * mebibyte });
    const { digest } = store.add(2 * mebibyte + 1);
    expect(await readAll(copies, digest)).toBeDefined();
    expect(await readdir(folder)).toEqual([]);
  });

  it('never take more than they leave free, and less when others take it', async () => {
    let free = 10 * mebibyte;
    const copies = copiesOf({
      freeBytes: async () => free - ((await bytesTold()) ?? 0),
    });
    for (let count = 0; count < 8; count += 1) await readAll(copies, store.add(mebibyte).digest);
    expect(await bytesTold()).toBe(5 * mebibyte);
    free = 4 * mebibyte;
    await readAll(copies, store.add(mebibyte).digest);
    expect(await bytesTold()).toBe(2 * mebibyte);
    await expect.poll(() => readdir(folder)).toHaveLength(2);
  });

  it('are no hindrance where they cannot be written', async () => {
    const copies = copiesOf({ newFile: () => Promise.resolve(join(folder, 'absent', 'file')) });
    const { digest, bytes } = store.add(mebibyte);
    expect((await readAll(copies, digest))?.equals(bytes)).toBe(true);
    const file = await verifiedFile(randomBytes(mebibyte));
    await copies.take(file);
    expect(log.warn).toHaveBeenCalledTimes(2);
    expect(await readdir(folder)).toEqual([]);
  });

  it('hold nobody up where the disk takes nothing', async () => {
    const copies = copiesOf();
    const { digest, bytes } = store.add(mebibyte);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const append = vi.spyOn(Spool.prototype, 'append').mockReturnValue(new Promise(() => undefined));
    try {
      const reading = readAll(copies, digest);
      await vi.waitUntil(() => append.mock.calls.length > 0);
      await vi.advanceTimersByTimeAsync(2_000);
      expect((await reading)?.equals(bytes)).toBe(true);
      expect(append).toHaveBeenCalledOnce();
    } finally {
      vi.useRealTimers();
      append.mockRestore();
    }
    expect(await readdir(folder)).toEqual([]);
    expect(log.warn).toHaveBeenCalledOnce();
  });

  it.each([
    ['gone', (path: string) => rm(path)],
    ['cut', (path: string) => truncate(path, 1000)],
    ['longer', (path: string) => writeFile(path, randomBytes(100), { flag: 'a' })],
  ])('give way to the store where their file is %s', async (_, spoil) => {
    const copies = copiesOf();
    const { digest, bytes } = store.add(mebibyte);
    await readAll(copies, digest);
    const [name = ''] = await readdir(folder);
    await spoil(join(folder, name));
    expect((await readAll(copies, digest))?.equals(bytes)).toBe(true);
    expect((await readAll(copies, digest))?.equals(bytes)).toBe(true);
    expect(store.opened).toBe(2);
  });
});
