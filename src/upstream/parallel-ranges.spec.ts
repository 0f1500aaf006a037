import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { digestOf } from '../oci/digest.js';
import type { PartsEvent, UpstreamObserver } from './observer.js';
import { ParallelRanges, PartSlots } from './parallel-ranges.js';
import type { BlobRequests, OpenedBlob } from './ranged-body.js';
import { UpstreamError, type UpstreamCode } from './upstream.js';

const KiB = 1024;
const patient = new AbortController().signal;
const fail = (code: UpstreamCode): UpstreamError => new UpstreamError(code, 'example.com', code);

function contentOf(size: number): Buffer {
  const content = Buffer.alloc(size);
  for (let at = 0; at + 4 <= size; at += 4) content.writeUInt32LE((at * 2_654_435_761) >>> 0, at);
  return content;
}

/** What goes wrong with one request. */
type Trouble =
  | { readonly kind: 'none' }
  | { readonly kind: 'refused'; readonly code: UpstreamCode }
  | { readonly kind: 'whole' } // the range is ignored
  | { readonly kind: 'total' } // another size, or none
  | { readonly kind: 'broken'; readonly at: number; readonly code: UpstreamCode };

interface Wire {
  /** For the first request, the second, …; the others go well. */
  readonly troubles: readonly Trouble[];
  readonly chunk: number;
  /** Turns of the event loop before each chunk, taken by turns. */
  readonly delays: readonly number[];
}

/** An upstream in memory, which counts what it has sent and nobody has read. */
class FakeBlob implements BlobRequests {
  sent = 0;
  open_ = 0;
  asked: string[] = [];
  #steps = 0;

  constructor(
    private readonly content: Buffer,
    private readonly wire: Wire,
  ) {}

  async open(start: number, end: number | undefined, signal: AbortSignal): Promise<OpenedBlob> {
    const trouble = this.#next(`${start}-${end ?? ''}`);
    const total = this.content.length;
    if (start > 0 && start >= total) throw fail('range');
    if (trouble.kind === 'refused') throw fail(trouble.code);
    const whole = end === undefined || trouble.kind === 'whole';
    const last = whole ? total - 1 : Math.min(end, total - 1);
    const size = trouble.kind === 'total' ? undefined : total;
    return { size, end: whole ? undefined : last, body: this.#body(start, last, trouble, signal) };
  }

  async range({ start, end }: { start: number; end: number }, signal: AbortSignal): Promise<OpenedBlob> {
    const trouble = this.#next(`${start}-${end}`);
    if (trouble.kind === 'refused') throw fail(trouble.code);
    if (trouble.kind === 'whole') throw fail('range');
    const size = this.content.length + (trouble.kind === 'total' ? 1 : 0);
    return { size, end, body: this.#body(start, end, trouble, signal) };
  }

  #next(range: string): Trouble {
    this.asked.push(range);
    return this.wire.troubles[this.asked.length - 1] ?? { kind: 'none' };
  }

  async *#body(
    start: number,
    last: number,
    trouble: Trouble,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    this.open_ += 1;
    try {
      const breaks = trouble.kind === 'broken' ? start + trouble.at : Infinity;
      for (let at = start; at <= last;) {
        const turns = this.wire.delays[this.#steps % this.wire.delays.length] ?? 0;
        this.#steps += 1;
        for (let done = 0; done < turns; done += 1) await turn();
        signal.throwIfAborted();
        if (at >= breaks) throw fail(trouble.kind === 'broken' ? trouble.code : 'broken-body');
        const end = Math.min(at + this.wire.chunk, last + 1, breaks);
        this.sent += end - at;
        yield this.content.subarray(at, end);
        at = end;
      }
    } finally {
      this.open_ -= 1;
    }
  }
}

function rangesOf(options: { connections: number; partSize: number; minsize?: number; slots?: PartSlots }): {
  ranges: ParallelRanges;
  slots: PartSlots;
  events: PartsEvent[];
  log: string[];
  clock: { now: number };
} {
  const events: PartsEvent[] = [];
  const log: string[] = [];
  const clock = { now: 1 };
  const { slots = new PartSlots(), minsize = 1 } = options;
  const observer = { partsFetched: (_: string, event: PartsEvent) => events.push(event) };
  const write = (_: object, message: string): void => void log.push(message);
  const ranges = new ParallelRanges({
    ...options,
    minsize,
    slots,
    host: 'example.com',
    now: () => clock.now,
    log: { info: write, warn: write, error: write },
    observer: observer as unknown as UpstreamObserver,
    pauseMs: 0,
  });
  return { ranges, slots, events, log, clock };
}

/** Reads as a transfer does: after trouble, from the byte that was reached. */
async function readAll(
  ranges: ParallelRanges,
  content: Buffer,
  blob: FakeBlob,
  offset = 0,
  onChunk: (read: number) => void = () => undefined,
): Promise<Buffer> {
  const digest = digestOf(content);
  const chunks: Uint8Array[] = [];
  let length = offset;
  for (let tries = 0; tries < 50; tries += 1) {
    try {
      const { body } = await ranges.fetch(digest, length, blob, patient);
      for await (const chunk of body) {
        chunks.push(chunk);
        length += chunk.byteLength;
        onChunk(length - offset);
      }
      return Buffer.concat(chunks);
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error;
      if (length === content.length) return Buffer.concat(chunks);
    }
  }
  throw new Error('too much trouble');
}

const trouble: fc.Arbitrary<Trouble> = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Trouble>({ kind: 'none' }) },
  fc
    .constantFrom<UpstreamCode>('range', 'rate-limited', 'denied', 'invalid', 'server-error', 'unreachable')
    .map((code): Trouble => ({ kind: 'refused', code })),
  fc.constant<Trouble>({ kind: 'whole' }),
  fc.constant<Trouble>({ kind: 'total' }),
  fc
    .record({ at: fc.nat(200 * KiB), code: fc.constantFrom<UpstreamCode>('broken-body', 'timeout') })
    .map((facts): Trouble => ({ kind: 'broken', ...facts })),
);

describe('parallel ranges', () => {
  it('give the same bytes whatever the sizes, the order of arrival and the trouble, in bounded memory', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          size: fc.integer({ min: 1, max: 700 * KiB }),
          from: fc.nat(99),
          partSize: fc.integer({ min: 10 * KiB, max: 300 * KiB }),
          minsize: fc.constantFrom(1, 200 * KiB),
          connections: fc.integer({ min: 2, max: 5 }),
          chunk: fc.integer({ min: 5 * KiB, max: 100 * KiB }),
          delays: fc.array(fc.nat(3), { minLength: 1, maxLength: 7 }),
          troubles: fc.array(trouble, { maxLength: 12 }),
        }),
        async ({ size, from, partSize, connections, minsize, ...wire }) => {
          const content = contentOf(size);
          const offset = Math.floor((size * from) / 100);
          const { ranges, slots } = rangesOf({ connections, partSize, minsize });
          const free = slots.left;
          const blob = new FakeBlob(content, wire);
          let most = 0;
          let before = 0;
          const isCalm = wire.troubles.every(({ kind }) => kind === 'none');
          const read = await readAll(ranges, content, blob, offset, (length) => {
            most = Math.max(most, blob.sent - before);
            before = length;
          });
          expect(read.equals(content.subarray(offset))).toBe(true);
          // With trouble, what was sent and is dropped is among it.
          expect(most).toBeLessThanOrEqual(isCalm ? connections * partSize + wire.chunk : Infinity);
          expect(slots.left).toBe(free);
          // What was given up ends with the turn that it is in.
          await vi.waitFor(() => expect(blob.open_).toBe(0));
        },
      ),
      { numRuns: 150 },
    );
  });

  const partSize = 100 * KiB;
  const content = contentOf(1000 * KiB);
  const calm = { chunk: 50 * KiB, delays: [0], troubles: [] };

  it('are not begun while as many parts are in memory as may be', async () => {
    const slots = new PartSlots(5);
    const { ranges } = rangesOf({ connections: 4, partSize, slots });
    const one = new FakeBlob(content, calm);
    const first = await ranges.fetch(digestOf(content), 0, one, patient);
    expect(slots.left).toBe(1);
    const other = new FakeBlob(content, calm);
    expect((await readAll(ranges, content, other)).equals(content)).toBe(true);
    expect(other.asked).toEqual(['0-']);
    await first.body[Symbol.asyncIterator]().return?.();
    expect(slots.left).toBe(5);
  });

  it('end with their last reader: none is begun, none is left open', async () => {
    const { ranges } = rangesOf({ connections: 3, partSize });
    const blob = new FakeBlob(content, { ...calm, delays: [1] });
    const { body } = await ranges.fetch(digestOf(content), 0, blob, patient);
    for await (const _ of body) break;
    for (let turns = 0; turns < 10; turns += 1) await turn();
    expect([blob.open_, blob.asked.length]).toEqual([0, 3]);
  });

  it('tell an abort by its own reason', async () => {
    const { ranges, slots } = rangesOf({ connections: 3, partSize });
    const leaving = new AbortController();
    const blob = new FakeBlob(content, { ...calm, delays: [1] });
    const { body } = await ranges.fetch(digestOf(content), 0, blob, leaving.signal);
    const reading = (async () => {
      for await (const _ of body) leaving.abort(new Error('enough'));
    })();
    await expect(reading).rejects.toThrow('enough');
    for (let turns = 0; turns < 10; turns += 1) await turn();
    expect([blob.open_, slots.left]).toEqual([0, 16]);
  });

  it('are asked of an upstream that objected after a while again, which is logged once', async () => {
    const { ranges, events, log, clock } = rangesOf({ connections: 3, partSize });
    const objecting = { ...calm, troubles: [{ kind: 'whole' }] } as const;
    const asked: number[] = [];
    for (const minutes of [0, 5, 10, 25]) {
      clock.now = minutes * 60_000 + 1;
      const blob = new FakeBlob(content, minutes === 25 ? calm : objecting);
      expect((await readAll(ranges, content, blob)).equals(content)).toBe(true);
      asked.push(blob.asked.length);
    }
    expect(asked).toEqual([1, 1, 1, 10]);
    expect(events).toEqual(['objected', 'objected', 'begun']);
    expect(log).toHaveLength(1);
  });

  it('are not tried a second time for a blob that came in them and was not right', async () => {
    const { ranges, events, clock } = rangesOf({ connections: 3, partSize });
    for (const expected of [10, 1]) {
      const blob = new FakeBlob(content, calm);
      await readAll(ranges, content, blob);
      expect(blob.asked).toHaveLength(expected);
    }
    clock.now += 11 * 60_000;
    await readAll(ranges, content, new FakeBlob(content, calm));
    expect(events).toEqual(['begun', 'begun']);
  });

  it.each<[UpstreamCode, boolean]>([
    ['range', true],
    ['invalid', true],
    ['server-error', true],
    ['rate-limited', false],
    ['not-found', false],
    ['unreachable', false],
  ])('refused with %s at once are followed by the whole: %s', async (code, follows) => {
    const { ranges } = rangesOf({ connections: 3, partSize });
    const blob = new FakeBlob(content, { ...calm, troubles: [{ kind: 'refused', code }] });
    const outcome = await ranges.fetch(digestOf(content), 0, blob, patient).then(
      () => 'given',
      (error: unknown) => (error instanceof UpstreamError ? error.code : error),
    );
    expect(outcome).toBe(follows ? 'given' : code);
    expect(blob.asked).toEqual(follows ? [`0-${partSize - 1}`, '0-'] : [`0-${partSize - 1}`]);
  });
});
