/** A body is longer than its reader's limit. */
export class TooLong extends Error {
  override readonly name = 'TooLong';
  constructor(limit: number) {
    super(`more than ${limit} bytes`);
  }
}

/** The pieces of a body, up to `limit` bytes. Leaving the loop early destroys a stream. @throws TooLong */
export async function* atMostBytes(
  body: AsyncIterable<Uint8Array>,
  limit: number,
): AsyncGenerator<Uint8Array> {
  let received = 0;
  for await (const piece of body) {
    received += piece.byteLength;
    if (received > limit) throw new TooLong(limit);
    yield piece;
  }
}

/**
 * A whole body of at most `limit` bytes; a longer one is destroyed. `admit` gives each piece its room in memory.
 * @throws TooLong, and what `admit` throws
 */
export async function readAtMost(
  body: AsyncIterable<Uint8Array>,
  limit: number,
  admit?: (bytes: number) => Promise<void>,
): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of atMostBytes(body, limit)) {
    await admit?.(piece.byteLength);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
