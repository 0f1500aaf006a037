import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { digestOf } from '../oci/digest.js';
import type { BlobStore } from '../storage/storage.js';
import type { Filling, Source } from './filler.js';
import { StoreSource } from './store-source.js';

const log = pino({ level: 'silent' });
const content = Buffer.from('private content of another upstream');
const digest = digestOf(content);
const store = {
  stat: () => Promise.resolve(content.byteLength),
  open: () =>
    Promise.resolve({
      size: content.byteLength,
      range: undefined,
      body: (async function* () {
        yield content;
      })(),
      close: () => Promise.resolve(),
    }),
} as unknown as BlobStore;

/** A transfer whose upstream has given the blob with the size `given`, and answers HEAD with the size `said`. */
function transferOf(
  given: number | undefined,
  said: number | undefined,
): { filling: Filling; bytes: () => number } {
  let bytes = 0;
  const source = { upstream: { headBlob: () => Promise.resolve(said) }, repository: 'o/i', stored: 'o/i' };
  const filling: Filling = {
    digest,
    get length() {
      return bytes;
    },
    size: given,
    isOpen: true,
    signal: new AbortController().signal,
    nextSource: () => source as unknown as Source,
    refuse: () => undefined,
    open: () => undefined,
    append: (chunk) => Promise.resolve(void (bytes += chunk.byteLength)),
  };
  return { filling, bytes: () => bytes };
}

describe('stored content', () => {
  it.each([
    ['gives the blob without a size, and names none', undefined, undefined, 0],
    ['gives the blob without a size, and names another one', undefined, 1, 0],
    [
      'gives the blob without a size, and names the same one',
      undefined,
      content.byteLength,
      content.byteLength,
    ],
    ['gives the blob with the same size', content.byteLength, undefined, content.byteLength],
  ])(
    'of another repository fills a transfer only after proof: its upstream %s',
    async (_name, given, said, filled) => {
      const { filling, bytes } = transferOf(given, said);
      const source = new StoreSource(digest, store, undefined, log);
      expect(await source.fill(filling)).toBe(filled > 0);
      expect(bytes()).toBe(filled);
    },
  );
});
