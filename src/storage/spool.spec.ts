import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf } from '../oci/digest.js';
import { Spool } from './spool.js';
import { DigestMismatch } from './storage.js';

const block = 256 * 1024;
const content = randomBytes(16 * block + 4321);
let folder: string;
let count = 0;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cistern-spool-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

function create(bytes: Uint8Array = content): Promise<Spool> {
  count += 1;
  return Spool.create(digestOf(bytes), join(folder, `${count}`));
}

async function read(spool: Spool, from: number, to: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let offset = from; offset < to;) {
    const { bytes, giveBack } = await spool.readAt(offset, to - offset);
    parts.push(Buffer.from(bytes));
    offset += bytes.byteLength;
    giveBack();
  }
  return Buffer.concat(parts);
}

describe('a spool', () => {
  it('gives what was appended at once, before any of it is in the file', async () => {
    const spool = await create();
    await spool.append(content.subarray(0, 1000));
    expect(spool.kept).toBe(0);
    expect((await read(spool, 1, 1000)).equals(content.subarray(1, 1000))).toBe(true);
    await spool.release();
  });

  it('keeps a copy: the memory of a chunk is its owner’s again', async () => {
    const spool = await create();
    const chunk = Buffer.from(content.subarray(0, 70_000));
    await spool.append(chunk);
    chunk.fill(0);
    expect((await read(spool, 0, 70_000)).equals(content.subarray(0, 70_000))).toBe(true);
    await spool.release();
  });

  it('gives the same bytes from memory and from the file, however they came and are asked for', async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 3 * block }), { minLength: 1, maxLength: 12 });
    const reads = fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(sizes, reads, async (chunks, ranges) => {
        const spool = await create();
        for (const size of chunks) {
          const from = spool.length;
          await spool.append(content.subarray(from, from + size));
          for (const [a, b] of ranges) {
            const start = a % Math.max(1, spool.length);
            const end = Math.min(spool.length, start + 1 + (b % (2 * block)));
            expect((await read(spool, start, end)).equals(content.subarray(start, end))).toBe(true);
          }
        }
        await spool.release();
      }),
      { numRuns: 10 },
    );
  });

  it('holds little in memory, whatever its size', async () => {
    const spool = await create();
    for (let from = 0; from < content.byteLength; from += 65_536) {
      await spool.append(content.subarray(from, from + 65_536));
      expect(spool.held).toBeLessThanOrEqual(7 * block);
    }
    expect((await read(spool, 0, content.byteLength)).equals(content)).toBe(true);
    await spool.release();
  });

  it('uses no memory again that somebody still reads', async () => {
    const spool = await create();
    await spool.append(content.subarray(0, block));
    const lent = await spool.readAt(0, block);
    const others = await Promise.all([create(), create(), create()]);
    for (let from = block; from < content.byteLength; from += block) {
      await spool.append(content.subarray(from, from + block));
      for (const other of others) await other.append(Buffer.alloc(block));
    }
    expect(spool.held).toBeLessThan(content.byteLength - block);
    expect(content.subarray(0, lent.bytes.byteLength).equals(lent.bytes)).toBe(true);
    lent.giveBack();
    for (const each of [spool, ...others]) await each.release();
  });

  it('has all of it in the file once it is verified, and nothing in memory any more', async () => {
    const spool = await create();
    for (let from = 0; from < content.byteLength; from += 100_000) {
      await spool.append(content.subarray(from, from + 100_000));
    }
    await expect(spool.toFile()).rejects.toMatchObject({ code: 'io' });
    spool.verify(content.byteLength);
    const { path, size } = await spool.toFile();
    expect(size).toBe(content.byteLength);
    expect((await readFile(path)).equals(content)).toBe(true);
    expect(spool.held).toBe(0);
    expect((await read(spool, 0, size)).equals(content)).toBe(true);
    await spool.release();
  });

  it('takes an empty blob', async () => {
    const spool = await create(Buffer.alloc(0));
    spool.verify(undefined);
    expect((await spool.toFile()).size).toBe(0);
    await spool.release();
  });

  it('makes no file of what is not the content', async () => {
    const spool = await create();
    await spool.append(content.subarray(1));
    expect(() => spool.verify(undefined)).toThrow(DigestMismatch);
    await expect(spool.toFile()).rejects.toMatchObject({ code: 'io' });
    await spool.release();
  });

  it('keeps what is passed on out of the file, and forgets it once it is not wanted', async () => {
    const spool = await create();
    await spool.append(content.subarray(0, block + 10));
    spool.pass(content.subarray(block + 10, 2 * block + 500));
    spool.pass(content.subarray(2 * block + 500, 3 * block));
    expect((await read(spool, 0, 3 * block)).equals(content.subarray(0, 3 * block))).toBe(true);
    spool.forget(2 * block + 500);
    expect(spool.held).toBe(block);
    await expect(spool.readAt(block + 10, 1)).rejects.toMatchObject({ code: 'full' });
    expect(
      (await read(spool, 2 * block + 1, 3 * block)).equals(content.subarray(2 * block + 1, 3 * block)),
    ).toBe(true);
    await spool.release();
  });
});
