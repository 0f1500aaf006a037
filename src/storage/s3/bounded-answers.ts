import { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { atMostBytes } from '../../memory/read-at-most.js';

/** The longest answer that the SDK reads whole (a page of a list, or an error), in bytes. */
const longestAnswer = 8 * 1024 * 1024;
const longestMs = 30_000;

/** Bounds the answers that the SDK reads whole, in bytes and in time. Does not bound the content of an object. */
export function boundAnswers(client: S3Client): S3Client {
  client.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        const result = await next(args);
        const response = result.response as { readonly statusCode: number; body?: unknown };
        const isContent = commandName === 'GetObjectCommand' && response.statusCode < 300;
        if (response.body instanceof Readable && !isContent) {
          response.body = Readable.from(inTime(response.body), { objectMode: false });
        }
        return result;
      },
    { name: 'boundAnswers', step: 'deserialize', priority: 'low' },
  );
  return client;
}

async function* inTime(body: Readable): AsyncGenerator<Uint8Array> {
  const late = setTimeout(() => body.destroy(new Error(`no end within ${longestMs} ms`)), longestMs);
  try {
    yield* atMostBytes(body, longestAnswer);
  } finally {
    clearTimeout(late);
    body.destroy();
  }
}
