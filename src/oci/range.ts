/** A range of bytes, both ends inclusive, already checked against the size of what it is a range of. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** A `Range` header before the size is known. `last: n` asks for the last n bytes. */
export type RequestedRange =
  { readonly start: number; readonly end: number | undefined } | { readonly last: number };

const single = /^bytes[ \t]*=[ \t]*(?:(\d+)[ \t]*-[ \t]*(\d+)?|-[ \t]*(\d+))$/;

/** No content is that long, so this can stand for every larger position. */
const bytePosition = (digits: string): number => Math.min(Number(digits), Number.MAX_SAFE_INTEGER);

/**
 * Reads a `Range` header (RFC 9110 §14.2). `undefined` means: answer the whole (no header, another unit, a form
 * that is not understood, or several ranges, which a server may ignore).
 */
export function parseRange(header: string | undefined): RequestedRange | undefined {
  if (header === undefined) return undefined;
  const match = single.exec(header.trim());
  if (match === null) return undefined;
  const [, start, end, last] = match;
  if (last !== undefined) return { last: bytePosition(last) };
  const from = bytePosition(start ?? '');
  if (end === undefined) return { start: from, end: undefined };
  return bytePosition(end) < from ? undefined : { start: from, end: bytePosition(end) };
}

/** A range that begins after the end of what it was asked of: 416. */
export class RangeUnsatisfiable extends Error {
  override readonly name = 'RangeUnsatisfiable';
  constructor(readonly size: number) {
    super(`the range is outside of ${size} bytes`);
  }
}

/** The requested range of something `size` bytes long. Throws {@link RangeUnsatisfiable}. */
export function resolveRange(range: RequestedRange, size: number): ByteRange {
  if ('last' in range) {
    if (range.last === 0 || size === 0) throw new RangeUnsatisfiable(size);
    return { start: Math.max(0, size - range.last), end: size - 1 };
  }
  if (range.start >= size) throw new RangeUnsatisfiable(size);
  return { start: range.start, end: Math.min(range.end ?? size - 1, size - 1) };
}
