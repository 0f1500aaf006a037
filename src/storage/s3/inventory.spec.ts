import { describe, expect, it } from 'vitest';
import { digestOf, type Digest } from '../../oci/digest.js';
import { parseRepository, parseTag } from '../../oci/name.js';
import * as layout from '../layout.js';
import type { StoredLink } from '../storage.js';
import { S3Inventory } from './inventory.js';
import type { StoredObject } from './listing.js';

const [a, b, v1, v2] = [
  parseRepository('a'),
  parseRepository('b'),
  parseTag('v1'),
  parseTag('v1-2'),
] as const;
const digests = ['1', '2', '3'].map((text) => digestOf(Buffer.from(text))).sort();
const [first, second, third] = digests;
if (!a || !b || !v1 || !v2 || !first || !second || !third) throw new Error('unreachable');

/** Where tags point to. */
const current: Readonly<Record<string, Digest>> = {
  [layout.tagCurrentPath(a, v1)]: third,
  [layout.tagCurrentPath(a, v2)]: first,
  [layout.tagCurrentPath(b, v1)]: second,
};
const keys = [
  ...digests.map((digest) => layout.layerLinkPath(a, digest)),
  layout.revisionLinkPath(a, third),
  ...digests.map((digest) => layout.tagIndexPath(a, v1, digest)),
  layout.tagIndexPath(a, v2, first),
  layout.tagIndexPath(b, v1, second),
  layout.tagIndexPath(b, v2, second), // never made current
  ...Object.keys(current),
].sort();

/** Of a bucket that gives these pages. */
function inventoryOf(pages: readonly (readonly string[])[], read: string[] = []): S3Inventory {
  return new S3Inventory(
    {
      async *objects(): AsyncGenerator<readonly StoredObject[]> {
        for (const page of pages) yield page.map((key) => ({ key, size: 71, modifiedMs: 0 }));
      },
      serverTime: () => Promise.resolve(0),
    },
    {
      readSound: (path) => {
        read.push(path);
        return Promise.resolve(current[path]);
      },
    },
    () => undefined,
  );
}

async function links(inventory: S3Inventory): Promise<string[]> {
  const found: StoredLink[] = [];
  for await (const page of inventory.listLinks(new AbortController().signal)) found.push(...page);
  return found.map((link) => Object.values(link).join(' ')).sort();
}

const all = [
  ...digests.map((digest) => `layer a ${digest}`),
  `manifest a ${third}`,
  `tag a v1 ${third}`,
  `tag a v1-2 ${first}`,
  `tag b v1 ${second}`,
].sort();

describe('links in a bucket', () => {
  it('are the same wherever pages end', async () => {
    for (let end = 0; end <= keys.length; end += 1) {
      for (let next = end; next <= keys.length; next += 1) {
        const pages = [keys.slice(0, end), keys.slice(end, next), keys.slice(next)];
        expect(await links(inventoryOf(pages))).toEqual(all);
      }
    }
  });

  it('are read only where a name does not tell their target', async () => {
    const read: string[] = [];
    expect(await links(inventoryOf([keys], read))).toEqual(all);
    expect(read).toEqual([layout.tagCurrentPath(a, v1)]);
  });
});
