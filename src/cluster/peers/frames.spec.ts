import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  dataFrame,
  formatMessage,
  FrameError,
  frameHead,
  FrameReader,
  longestFrame,
  longestMessage,
  messageFrame,
  parseMessage,
} from './frames.js';

interface Sent {
  readonly type: number;
  readonly payload: Buffer;
}

const frame = fc.record({
  type: fc.constantFrom(dataFrame, messageFrame),
  payload: fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes)),
});

function onTheWire(frames: readonly Sent[]): Buffer {
  return Buffer.concat(frames.flatMap(({ type, payload }) => [frameHead(type, payload.byteLength), payload]));
}

/** Data in one piece, as frames of data have no meaning of their own; messages each by itself. */
function joined(frames: readonly Sent[]): Sent[] {
  const result: Sent[] = [];
  for (const { type, payload } of frames) {
    const last = result.at(-1);
    if (type === dataFrame && payload.byteLength === 0) continue;
    if (type === dataFrame && last?.type === dataFrame) {
      result.splice(-1, 1, { type, payload: Buffer.concat([last.payload, payload]) });
    } else result.push({ type, payload });
  }
  return result;
}

function read(chunks: readonly Buffer[]): Sent[] {
  const reader = new FrameReader();
  // Copied at once: what is read lies in memory that is used again.
  return chunks.flatMap((chunk) =>
    [...reader.push(chunk)].map(({ type, payload }) => ({ type, payload: Buffer.from(payload) })),
  );
}

/** How many bytes were in frames; 0 where the stream is refused. Throws what is no FrameError. */
function bytesRead(chunks: readonly Buffer[]): number {
  try {
    return read(chunks).reduce((sum, { payload }) => sum + payload.byteLength, 0);
  } catch (error) {
    if (error instanceof FrameError) return 0;
    throw error;
  }
}

function pieces(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [0, ...cuts.map((cut) => cut % (bytes.byteLength + 1)).sort((a, b) => a - b), bytes.byteLength];
  return at.slice(1).map((end, index) => bytes.subarray(at[index], end));
}

describe('peer frames', () => {
  it('come out as they went in, wherever the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 8 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (frames, cuts) => {
          expect(joined(read(pieces(onTheWire(frames), cuts)))).toEqual(joined(frames));
        },
      ),
    );
  });

  it('pass data on before the frame is complete', () => {
    const reader = new FrameReader();
    const head = frameHead(dataFrame, 1000);
    const [first] = [...reader.push(Buffer.concat([head, Buffer.from('abc')]))];
    expect(first?.payload.toString()).toBe('abc');
  });

  it.each([
    ['an unknown type', frameHead(3, 1)],
    ['data that is too long', frameHead(dataFrame, longestFrame + 1)],
    ['a message that is too long', frameHead(messageFrame, 4097)],
  ])('refuse %s', (_title, head) => {
    expect(() => read([head])).toThrow(FrameError);
  });

  it('of any bytes at all are read, or refused as what they are', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 10 }), (chunks) => {
        const given = chunks.reduce((sum, { byteLength }) => sum + byteLength, 0);
        expect(bytesRead(chunks.map((chunk) => Buffer.from(chunk)))).toBeLessThanOrEqual(given);
      }),
    );
  });
});

describe('formatMessage', () => {
  it('names as many of 100 repositories as fit', () => {
    const repositories = Array.from({ length: 100 }, (_, n) => `team/${'r'.repeat(80)}${n}`);
    const message = { kind: 'alive', length: 1, size: 2, repositories } as const;
    const text = formatMessage(message, longestMessage);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(longestMessage);
    const { repositories: named } = JSON.parse(text) as { repositories: string[] };
    expect(named.length).toBeGreaterThan(30);
    expect(named).toEqual(repositories.slice(0, named.length));
  });

  it('cuts a reason of a failure if it does not fit', () => {
    const text = formatMessage({ kind: 'failed', reason: 'ä"'.repeat(5_000) }, longestMessage);
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(longestMessage);
    expect(JSON.parse(text)).toMatchObject({ kind: 'failed', reason: expect.stringMatching(/^ä/) });
  });
});

describe('parseMessage', () => {
  it.each([
    { kind: 'alive', length: 1, repositories: ['app'] },
    { kind: 'alive', length: 0, size: 2, repositories: [] },
    { kind: 'failed', reason: 'disk full' },
    { kind: 'failed', reason: 'gone', code: 'not-found', repository: 'app' },
    { kind: 'complete', size: 4 },
  ])('reads %j', (message) => {
    expect(parseMessage(JSON.stringify(message))).toEqual(message);
  });

  it.each([
    '',
    '{',
    'null',
    '"alive"',
    '{}',
    '{"kind":"other"}',
    '{"kind":"alive","length":1}',
    '{"kind":"alive","length":-1,"repositories":[]}',
    '{"kind":"alive","length":1e300,"repositories":[]}',
    '{"kind":"alive","length":1,"size":"2","repositories":[]}',
    '{"kind":"alive","length":1,"repositories":[1]}',
    '{"kind":"alive","length":1,"repositories":"app"}',
    '{"kind":"failed"}',
    '{"kind":"failed","reason":"x","code":1}',
    '{"kind":"complete","size":null}',
  ])('throws a FrameError for %j', (text) => {
    expect(() => parseMessage(text)).toThrow(FrameError);
  });
});
