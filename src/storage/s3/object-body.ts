import { IncomingMessage } from 'node:http';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import type { ByteRange, RequestedRange } from '../../oci/range.js';
import { StorageError, type OpenBlob } from '../storage.js';
import { storageError } from './errors.js';

/** While a body is read, which a slow client may pause: only silence that is waited in counts. */
const bodyIdleMs = 15_000;

/** What S3 answered, with its body for reading at the caller's pace. */
export function openBody(
  key: string,
  { Body, ContentLength = 0, ContentRange }: GetObjectCommandOutput,
): OpenBlob {
  const body = bodyOf(Body);
  body.socket?.setTimeout(0); // from now on silence is watched where somebody waits for a chunk
  const part = parseContentRange(ContentRange);
  return {
    size: part?.size ?? ContentLength,
    range: part?.range,
    body: readBody(body, key),
    close: () => Promise.resolve(void body.destroy()),
  };
}

export function rangeHeader(range: RequestedRange): string {
  if ('last' in range) return `bytes=-${range.last}`;
  return `bytes=${range.start}-${range.end ?? ''}`;
}

export function parseContentRange(
  header: string | undefined,
): { range: ByteRange; size: number } | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(header ?? '');
  if (match === null) return undefined;
  const [, start, end, size] = match;
  return { range: { start: Number(start), end: Number(end) }, size: Number(size) };
}

function bodyOf(body: unknown): IncomingMessage {
  if (body instanceof IncomingMessage) return body;
  throw new TypeError('the S3 client gave a body that is not the response itself');
}

/** A body's chunks. Silence counts only while somebody waits for the next one, so a slow client is not cut off. */
async function* readBody(body: IncomingMessage, key: string): AsyncGenerator<Uint8Array> {
  let waiting = false;
  const silence = setTimeout(() => {
    if (waiting) body.destroy(new StorageError('io', `${key} stopped coming for ${bodyIdleMs} ms`));
  }, bodyIdleMs);
  const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      waiting = true;
      silence.refresh();
      const { done, value } = await chunks.next();
      waiting = false;
      if (done === true) return;
      yield value;
    }
  } catch (error) {
    throw storageError(error, `reading ${key}`);
  } finally {
    clearTimeout(silence);
    body.destroy();
  }
}
