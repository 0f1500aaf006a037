import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { digestOf, type Digest } from '../../src/oci/digest.js';
import { RangeUnsatisfiable } from '../../src/oci/range.js';
import { Spool } from '../../src/storage/spool.js';
import {
  DigestMismatch,
  StorageError,
  type BlobStore,
  type VerifiedFile,
} from '../../src/storage/storage.js';

export interface BlobStoreUnderTest {
  readonly store: BlobStore;
  /** A second store over the same content, as another replica has it. */
  readonly other: BlobStore;
  /** A path for a new spool. */
  newSpool(): Promise<string>;
  /** Everything that is visible in the store, by digest. */
  visible(): Promise<string[]>;
}

export async function verifiedFile(path: string, bytes: Uint8Array, digest: Digest): Promise<VerifiedFile> {
  const spool = await Spool.create(digest, path);
  await spool.append(bytes);
  spool.verify(bytes.byteLength);
  const file = await spool.toFile();
  await spool.release();
  return file;
}

async function collect(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

/** What every BlobStore does. */
export function blobStoreContract(make: () => Promise<BlobStoreUnderTest>): void {
  it('has nothing at first', async () => {
    const { store } = await make();
    const digest = digestOf(Buffer.from('absent'));
    expect(await store.stat(digest)).toBeUndefined();
    expect(await store.open(digest)).toBeUndefined();
    expect(await store.read(digest, 10)).toBeUndefined();
  });

  it.each(['sha256', 'sha512'] as const)('gives back what it took, by %s', async (algorithm) => {
    const { store, other, newSpool } = await make();
    const bytes = randomBytes(700_001);
    const digest = digestOf(bytes, algorithm);
    await store.take(await verifiedFile(await newSpool(), bytes, digest));
    for (const each of [store, other]) {
      expect(await each.stat(digest)).toBe(bytes.byteLength);
      const blob = await each.open(digest);
      expect(blob?.size).toBe(bytes.byteLength);
      expect((await collect(blob?.body ?? [])).equals(bytes)).toBe(true);
      await blob?.close();
    }
  });

  it('reads exactly the range that is asked for', async () => {
    const { store, newSpool } = await make();
    const bytes = randomBytes(600_000);
    const digest = digestOf(bytes);
    await store.take(await verifiedFile(await newSpool(), bytes, digest));
    for (const [start, end] of [
      [0, 0],
      [599_999, 599_999],
      [262_143, 262_144],
      [1, 599_998],
    ] as const) {
      const blob = await store.open(digest, { start, end });
      expect(blob).toMatchObject({ size: 600_000, range: { start, end } });
      const part = await collect(blob?.body ?? []);
      expect(part.equals(bytes.subarray(start, end + 1))).toBe(true);
      await blob?.close();
    }
    const last = await store.open(digest, { last: 7 });
    expect(last?.range).toEqual({ start: 599_993, end: 599_999 });
    await last?.close();
    await expect(store.open(digest, { start: 600_000, end: undefined })).rejects.toBeInstanceOf(
      RangeUnsatisfiable,
    );
  });

  it('keeps an open blob readable while equal content is taken again', async () => {
    const { store, newSpool } = await make();
    const bytes = randomBytes(300_000);
    const digest = digestOf(bytes);
    await store.take(await verifiedFile(await newSpool(), bytes, digest));
    const blob = await store.open(digest);
    await store.take(await verifiedFile(await newSpool(), bytes, digest));
    expect((await collect(blob?.body ?? [])).equals(bytes)).toBe(true);
    await blob?.close();
  });

  it('takes equal content from many at once', async () => {
    const { store, other, newSpool, visible } = await make();
    const bytes = randomBytes(100_000);
    const digest = digestOf(bytes);
    const files = await Promise.all(
      Array.from({ length: 8 }, async () => verifiedFile(await newSpool(), bytes, digest)),
    );
    await Promise.all(files.map((file, index) => (index % 2 === 0 ? store : other).take(file)));
    expect((await store.read(digest, 100_000))?.equals(bytes)).toBe(true);
    expect(await visible()).toEqual([digest]);
  });

  it('puts small content whole, and refuses it under a wrong digest', async () => {
    const { store, visible } = await make();
    const bytes = Buffer.from('{"schemaVersion":2}');
    await store.put(digestOf(bytes), bytes);
    expect((await store.read(digestOf(bytes), 100))?.equals(bytes)).toBe(true);
    const wrong = digestOf(Buffer.from('other'));
    await expect(store.put(wrong, bytes)).rejects.toBeInstanceOf(DigestMismatch);
    expect(await store.stat(wrong)).toBeUndefined();
    expect(await visible()).toEqual([digestOf(bytes)]);
  });

  it('takes an empty blob', async () => {
    const { store, newSpool } = await make();
    const empty = Buffer.alloc(0);
    await store.take(await verifiedFile(await newSpool(), empty, digestOf(empty)));
    const blob = await store.open(digestOf(empty));
    expect(blob?.size).toBe(0);
    expect((await collect(blob?.body ?? [])).byteLength).toBe(0);
    await blob?.close();
  });

  it('refuses to read a whole blob that is larger than the limit', async () => {
    const { store } = await make();
    const bytes = Buffer.from('0123456789');
    await store.put(digestOf(bytes), bytes);
    await expect(store.read(digestOf(bytes), 9)).rejects.toBeInstanceOf(StorageError);
    const asked: number[] = [];
    const refuse = (size: number): Promise<void> => {
      asked.push(size);
      return Promise.reject(new Error('no room'));
    };
    await expect(store.read(digestOf(bytes), 10, refuse)).rejects.toThrow('no room');
    expect(asked).toEqual([10]);
  });

  it('cannot be given a file that was not verified', async () => {
    const { newSpool, visible } = await make();
    const spool = await Spool.create(digestOf(Buffer.from('right')), await newSpool());
    await spool.append(Buffer.from('wrong'));
    expect(() => spool.verify(5)).toThrow(DigestMismatch);
    await spool.release();
    await spool.discard();
    expect(await visible()).toEqual([]);
  });

  it('verifies size as well as digest', async () => {
    const { newSpool } = await make();
    const bytes = Buffer.from('right');
    const spool = await Spool.create(digestOf(bytes), await newSpool());
    await spool.append(bytes);
    expect(() => spool.verify(6)).toThrow(DigestMismatch);
    await spool.release();
    await spool.discard();
  });
}
