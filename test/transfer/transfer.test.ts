import { randomBytes } from 'node:crypto';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestOf, type Digest } from '../../src/oci/digest.js';
import type { Repository } from '../../src/oci/name.js';
import type { ByteRange } from '../../src/oci/range.js';
import type { Filler, Source } from '../../src/proxy/filler.js';
import { fillFromUpstream } from '../../src/proxy/lead.js';
import { Transfer, type TransferReader } from '../../src/proxy/transfer.js';
import { Spool } from '../../src/storage/spool.js';
import { DigestMismatch, StorageError } from '../../src/storage/storage.js';
import { UpstreamError, type Upstream } from '../../src/upstream/upstream.js';
import { repository } from '../contracts/repository-store.js';

const content = randomBytes(1_000_000);
const digest = digestOf(content);
const never = new AbortController().signal;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cistern-transfer-'));
});
afterEach(async () => {
  await rmdir(folder); // fails where a transfer left its spool behind
});

/** An upstream whose answers are the steps, in turn; each is told the offset that it is asked from. */
type Step = (offset: number) => { size?: number; body: AsyncIterable<Uint8Array> };
interface Scripted extends Source {
  readonly offsets: number[];
}

function source(name: string, ...steps: Step[]): Scripted {
  const offsets: number[] = [];
  const fetchBlob = (_repository: Repository, _digest: Digest, offset: number) => {
    offsets.push(offset);
    const step = steps.shift();
    if (step === undefined) return Promise.reject(new UpstreamError('not-found', name, 'has no more steps'));
    try {
      const { size, body } = step(offset);
      return Promise.resolve({ size, body });
    } catch (error) {
      return Promise.reject(error as Error);
    }
  };
  const upstream = { host: name, fetchBlob } as unknown as Upstream;
  return { upstream, repository: repository(name), stored: repository(name), offsets };
}

async function* bytes(from: number, to: number, then?: Error): AsyncGenerator<Uint8Array> {
  for (let position = from; position < to; position += 50_000) {
    yield content.subarray(position, Math.min(to, position + 50_000));
    await Promise.resolve();
  }
  if (then !== undefined) throw then;
}

const whole: Step = (offset) => ({ size: content.byteLength, body: bytes(offset, content.byteLength) });
const broken =
  (to: number): Step =>
  (offset) => ({
    size: content.byteLength,
    body: bytes(offset, to, new UpstreamError('broken-body', 'x', 'ended early')),
  });
const refuses =
  (code: 'not-found' | 'denied' | 'rate-limited' | 'unreachable' = 'not-found'): Step =>
  () => {
    throw new UpstreamError(code, 'x', `says ${code}`);
  };

interface Stored {
  readonly repositories: readonly Repository[];
  readonly size: number;
}

interface Hooks {
  store?: () => Promise<void>;
  reserve?: (bytes: number) => void;
  pass?: () => void;
}

async function start(first: Source, hooks: Hooks = {}) {
  const spool = await Spool.create(digest, join(folder, `spool-${randomBytes(4).toString('hex')}`));
  const stored: Stored[] = [];
  const filler: Filler = {
    fill: (filling) =>
      fillFromUpstream(filling, { maxBytes: Infinity, read: () => undefined, resumed: () => undefined }),
    store: async (file, repositories) => {
      await hooks.store?.();
      stored.push({ repositories, size: file.size });
    },
    close: () => Promise.resolve(),
  };
  const transfer = new Transfer(digest, first, spool, filler, {
    reserve: (size) => hooks.reserve?.(size),
    grown: () => undefined,
    pass: () => hooks.pass?.(),
    ended: () => undefined,
  });
  return { transfer, stored };
}

function joined(transfer: Transfer, source: Source): TransferReader {
  const reader = transfer.join(source.stored);
  if (reader === undefined) throw new Error('the transfer is over');
  return reader;
}

async function* readAll(
  transfer: Transfer,
  source: Source,
  range?: ByteRange,
  signal = never,
): AsyncGenerator<Uint8Array> {
  const reader = joined(transfer, source);
  try {
    yield* reader.read(range, signal);
  } finally {
    await reader.close();
  }
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

describe('a transfer', () => {
  it('gives every reader the whole blob, and the store a verified file', async () => {
    const a = source('a', whole);
    const { transfer, stored } = await start(a);
    const readers = await Promise.all(Array.from({ length: 20 }, () => collect(readAll(transfer, a))));
    for (const read of readers) expect(read.equals(content)).toBe(true);
    await transfer.finished;
    expect(stored).toEqual([{ repositories: ['a'], size: content.byteLength }]);
    expect(a.offsets).toEqual([0]);
  });

  it('frees the memory that an upstream’s chunk came in, but none that other bytes share', async () => {
    const own = Buffer.from(content.subarray(0, 600_000));
    const shared = Buffer.from(content).subarray(600_000);
    const a = source('a', () => ({
      size: content.byteLength,
      body: (async function* () {
        yield own;
        yield shared;
      })(),
    }));
    const { transfer } = await start(a);
    expect((await collect(readAll(transfer, a))).equals(content)).toBe(true);
    await transfer.finished;
    expect(own.byteLength).toBe(0);
    expect(shared.equals(content.subarray(600_000))).toBe(true);
  });

  it('holds the last byte back until all bytes are hashed, whether the size is known or not', async () => {
    for (const size of [content.byteLength, undefined]) {
      const gate = Promise.withResolvers<void>();
      const all: Step = () => ({
        ...(size === undefined ? {} : { size }),
        body: (async function* () {
          yield Buffer.from(content); // its memory is given up
          await gate.promise;
        })(),
      });
      const a = source('a', all);
      const { transfer } = await start(a);
      await joined(transfer, a).reached(content.byteLength - 2, never);
      expect(transfer.readable).toBe(content.byteLength - 1);
      gate.resolve();
      await transfer.finished;
      expect(transfer.readable).toBe(content.byteLength);
    }
  });

  it('goes on from the byte reached when the body breaks', async () => {
    const a = source('a', broken(300_000), broken(700_000), whole);
    const { transfer } = await start(a);
    expect((await collect(readAll(transfer, a))).equals(content)).toBe(true);
    await transfer.finished;
    expect(a.offsets).toEqual([0, 300_000, 700_000]);
  });

  it('gives up on an upstream that breaks again and again without getting anywhere', async () => {
    const a = source('a', broken(300_000), ...Array.from({ length: 20 }, () => broken(300_000)));
    const { transfer, stored } = await start(a);
    await expect(collect(readAll(transfer, a))).rejects.toMatchObject({
      code: 'broken-body',
    });
    await expect(transfer.finished).rejects.toMatchObject({ code: 'broken-body' });
    expect(a.offsets.length).toBeLessThan(10);
    expect(stored).toEqual([]);
  });

  it('goes on from another repository that has the blob when the first breaks', async () => {
    const a = source('a', refuses('rate-limited'));
    const b = source('b', whole);
    const { transfer, stored } = await start(a);
    transfer.addSource(b);
    expect((await collect(readAll(transfer, b))).equals(content)).toBe(true);
    await transfer.finished;
    expect(stored).toEqual([{ repositories: ['b'], size: content.byteLength }]);
  });

  it('fails only the readers of the repository that may not have it', async () => {
    for (const code of ['not-found', 'denied'] as const) {
      const a = source('a', refuses(code));
      const b = source('b', whole);
      const { transfer, stored } = await start(a);
      transfer.addSource(b);
      const [refused, served] = await Promise.allSettled([
        joined(transfer, a).opened(never),
        collect(readAll(transfer, b)),
      ]);
      expect(refused).toMatchObject({ status: 'rejected', reason: { code } });
      expect(served).toMatchObject({ status: 'fulfilled' });
      await transfer.finished;
      expect(stored.flatMap(({ repositories }) => repositories)).toEqual(['b']);
    }
  });

  it('tells every waiter why it failed', async () => {
    const a = source('a', refuses());
    const { transfer } = await start(a);
    const waiters = await Promise.allSettled(
      Array.from({ length: 5 }, () => joined(transfer, a).opened(never)),
    );
    for (const waiter of waiters) expect(waiter).toMatchObject({ reason: { code: 'not-found' } });
    await expect(transfer.finished).rejects.toMatchObject({ code: 'not-found' });
  });

  it('cuts readers off before the end when the content is not what its digest says', async () => {
    const corrupt: Step = () => ({
      size: content.byteLength,
      body: (async function* () {
        yield content.subarray(0, -1);
        yield Buffer.from([(content.at(-1) ?? 0) ^ 1]);
      })(),
    });
    const a = source('a', corrupt);
    const { transfer, stored } = await start(a);
    let read = 0;
    const reading = (async () => {
      for await (const chunk of readAll(transfer, a)) read += chunk.byteLength;
    })();
    await expect(reading).rejects.toBeInstanceOf(DigestMismatch);
    expect(read).toBe(content.byteLength - 1);
    await expect(transfer.finished).rejects.toBeInstanceOf(DigestMismatch);
    expect(stored).toEqual([]);
  });

  it('refuses more bytes than were declared, and another size than before', async () => {
    const longer: Step = () => ({ size: 1000, body: bytes(0, 2000) });
    const a = source('a', longer, longer, longer, longer, longer, longer, longer, longer);
    const { transfer, stored } = await start(a);
    await expect(transfer.finished).rejects.toMatchObject({ code: 'invalid' });
    expect(stored).toEqual([]);
  });

  it('serves its readers to the end when the store does not take the blob', async () => {
    const a = source('a', whole);
    const { transfer } = await start(a, {
      store: () => Promise.reject(new StorageError('full', 'no space')),
    });
    expect((await collect(readAll(transfer, a))).equals(content)).toBe(true);
    await expect(transfer.finished).rejects.toMatchObject({ code: 'full' });
  });

  it('fails before the first byte when the spool has no room for the blob', async () => {
    const a = source('a', whole);
    const { transfer } = await start(a, {
      reserve: () => {
        throw new StorageError('full', 'no room');
      },
    });
    await expect(joined(transfer, a).opened(never)).rejects.toMatchObject({ code: 'full' });
    await expect(transfer.finished).rejects.toMatchObject({ code: 'full' });
  });

  describe('whose spool becomes full', () => {
    /** Room for so many bytes; the size is not known, so that it shows only as they come. */
    const room = (most: number): { reserve: (size: number) => void } => {
      let left = most;
      return {
        reserve: (size) => {
          left -= size;
          if (left < 0) throw new StorageError('full', 'no room');
        },
      };
    };
    const unknown =
      (gate: Promise<void> = Promise.resolve()): Step =>
      (offset) => ({
        body: (async function* () {
          await gate;
          yield* bytes(offset, content.byteLength);
        })(),
      });
    const big = 8;

    it('passes the rest on to those who read, and stores nothing', async () => {
      const gate = Promise.withResolvers<void>();
      const a = source('a', unknown(gate.promise));
      const { transfer, stored } = await start(a, room(300_000));
      const readers = Array.from({ length: 5 }, () => collect(readAll(transfer, a)));
      gate.resolve();
      for (const read of await Promise.all(readers)) expect(read.equals(content)).toBe(true);
      await expect(transfer.finished).rejects.toMatchObject({ code: 'full' });
      expect(stored).toEqual([]);
      expect(a.offsets).toEqual([0]);
    });

    it('still cuts corrupt content off before its end', async () => {
      const gate = Promise.withResolvers<void>();
      const corrupt: Step = () => ({
        body: (async function* () {
          await gate.promise;
          yield* bytes(0, content.byteLength - 1);
          yield Buffer.from([(content.at(-1) ?? 0) ^ 1]);
        })(),
      });
      const a = source('a', corrupt);
      const { transfer } = await start(a, room(300_000));
      let read = 0;
      const reading = (async () => {
        for await (const chunk of readAll(transfer, a)) read += chunk.byteLength;
      })();
      gate.resolve();
      await expect(reading).rejects.toBeInstanceOf(DigestMismatch);
      expect(read).toBe(content.byteLength - 1);
      await expect(transfer.finished).rejects.toBeInstanceOf(DigestMismatch);
    });

    it('takes nobody new, and fails when nobody reads', async () => {
      const gate = Promise.withResolvers<void>();
      const a = source('a', unknown(gate.promise));
      const { transfer } = await start(a, room(300_000));
      gate.resolve();
      await expect(transfer.finished).rejects.toMatchObject({ code: 'full' });

      const held = Promise.withResolvers<void>();
      const b = source('b', () => ({
        body: (async function* () {
          await held.promise;
          yield content.subarray(0, 500_000);
          yield content.subarray(500_000, 900_000);
          throw new UpstreamError('broken-body', 'b', 'ended early');
        })(),
      }));
      const other = await start(b, room(600_000));
      const reader = joined(other.transfer, b);
      held.resolve();
      await reader.reached(899_998, never);
      expect(() => other.transfer.join(b.stored)).toThrow(StorageError);
      await reader.close();
      await expect(other.transfer.finished).rejects.toBeInstanceOf(Error);
    });

    it('holds little in memory: a reader waits for nobody, and who holds up the others is cut', async () => {
      const large = randomBytes(big * 1024 * 1024);
      const largeDigest = digestOf(large);
      const gate = Promise.withResolvers<void>();
      const spool = await Spool.create(largeDigest, join(folder, 'large'));
      const a = source('a', () => ({
        body: (async function* () {
          await gate.promise;
          for (let at = 0; at < large.byteLength; at += 65_536) yield large.subarray(at, at + 65_536);
        })(),
      }));
      const filler: Filler = {
        fill: (filling) =>
          fillFromUpstream(filling, { maxBytes: Infinity, read: () => undefined, resumed: () => undefined }),
        store: () => Promise.resolve(),
        close: () => Promise.resolve(),
      };
      let most = 0;
      const transfer = new Transfer(largeDigest, a, spool, filler, {
        reserve: room(1024 * 1024).reserve,
        grown: () => undefined,
        pass: () => undefined,
        ended: () => undefined,
      });
      const slow = readAll(transfer, a);
      const first = slow.next();
      const quick = (async () => {
        const parts: Buffer[] = [];
        for await (const chunk of readAll(transfer, a)) {
          parts.push(Buffer.from(chunk));
          most = Math.max(most, spool.held);
        }
        return Buffer.concat(parts);
      })();
      gate.resolve();
      await first;
      expect((await quick).equals(large)).toBe(true);
      expect(most).toBeLessThanOrEqual(2 * 1024 * 1024);
      await expect(collect(slow)).rejects.toMatchObject({ code: 'full' });
      await expect(transfer.finished).rejects.toMatchObject({ code: 'full' });
    });
  });

  it('takes no reader once it is over, and keeps the file open for those who joined before', async () => {
    const a = source('a', whole);
    const { transfer } = await start(a);
    const reader = joined(transfer, a);
    await transfer.finished;
    expect((await collect(reader.read(undefined, never))).equals(content)).toBe(true);
    await reader.close();
    expect(transfer.join(a.stored)).toBeUndefined();
  });

  it('goes on when a reader leaves', async () => {
    const a = source('a', whole);
    const { transfer, stored } = await start(a);
    const leaving = new AbortController();
    const reading = (async () => {
      for await (const chunk of readAll(transfer, a, undefined, leaving.signal)) {
        if (chunk.byteLength > 0) leaving.abort(new Error('gone'));
      }
    })();
    await expect(reading).rejects.toThrow('gone');
    await transfer.finished;
    expect(stored).toHaveLength(1);
  });

  it('serves a range as soon as its bytes are there', async () => {
    const gate = Promise.withResolvers<void>();
    const half: Step = () => ({
      size: content.byteLength,
      body: (async function* () {
        yield content.subarray(0, 500_000);
        await gate.promise;
        yield content.subarray(500_000);
      })(),
    });
    const a = source('a', half);
    const { transfer } = await start(a);
    const part = await collect(readAll(transfer, a, { start: 100_000, end: 399_999 }));
    expect(part.equals(content.subarray(100_000, 400_000))).toBe(true);
    gate.resolve();
    await transfer.finished;
  });
});
