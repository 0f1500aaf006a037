import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { parseDigest } from '../../src/oci/digest.js';
import { parseTag } from '../../src/oci/name.js';
import { parsePath } from '../../src/oci/path.js';
import { parseRange, RangeUnsatisfiable, resolveRange } from '../../src/oci/range.js';
import { parseBasic } from '../../src/registry/basic.js';
import {
  blobPath,
  layerLinkPath,
  repositoriesFolder,
  revisionLinkPath,
  tagCurrentPath,
} from '../../src/storage/layout.js';
import { type Route, RouteError, UpstreamDirectory } from '../../src/upstream/directory.js';
import type { Fuzzed } from './properties.js';
import { isHeaderSafe, texts } from './texts.js';

const hex = 'a1'.repeat(32);

function entry(host: string, isDefault: boolean) {
  const library = isDefault ? ('always' as const) : ('never' as const);
  return { upstream: undefined, host, aliases: [], hosts: [`mirror.${host}`], isDefault, library };
}

const directory = new UpstreamDirectory([
  entry('docker.io', true),
  entry('ghcr.io', false),
  entry('registry.local:5000', false),
]);

const urls = texts(
  '/v2/',
  'a',
  'library',
  'ghcr.io',
  'registry.local:5000',
  'registry.local__5000',
  '/manifests/',
  '/blobs/',
  '/tags/list',
  '/referrers/',
  'uploads',
  '_layers',
  `sha256:${hex}`,
  'v1',
  '?ns=',
);

function route(name: string, ns: string | undefined, hostHeader: string | undefined): Route | undefined {
  try {
    return directory.route({ ns, hostHeader, name });
  } catch (error) {
    assert.ok(error instanceof RouteError, 'only RouteError');
    assert.ok(!/[\r\n]/.test(error.message), 'one line');
    return undefined;
  }
}

/** Where content of such a request would be kept, and where upstream it would be asked for. */
function checkPlaces({ host, name, stored }: Route, reference: string): void {
  assert.ok(['docker.io', 'ghcr.io', 'registry.local:5000'].includes(host), 'a configured host');
  const [digest, tag] = [parseDigest(reference), parseTag(reference)];
  const own = [
    ...(digest === undefined ? [] : [layerLinkPath(stored, digest), revisionLinkPath(stored, digest)]),
    ...(tag === undefined ? [] : [tagCurrentPath(stored, tag)]),
  ];
  const paths = [...own, ...(digest === undefined ? [] : [blobPath(digest)])];
  for (const path of paths) {
    assert.equal(resolve('/root', path), `/root/${path}`, 'a path that stays as it is');
    assert.match(path, /^docker\/registry\/v2\/[a-z0-9/._-]+$/i, 'a plain path');
  }
  for (const path of own) {
    assert.ok(path.startsWith(`${repositoriesFolder}/${stored}/_`), 'below its repository');
  }
  if (paths.length === 0) return;
  const asked = `/v2/${name}/manifests/${reference}`;
  assert.equal(
    new URL(`https://registry.test${asked}`).href,
    `https://registry.test${asked}`,
    'asked as it is',
  );
}

export const paths: Fuzzed = {
  name: 'paths and routes of requests',
  share: 280_000,
  check: (numRuns, seed) => {
    const hosts = fc.option(texts('mirror.', 'ghcr.io', 'registry.local', ':5000', '['), { nil: undefined });
    const property = fc.property(urls, hosts, (url, hostHeader) => {
      const parsed = parsePath(url);
      if (parsed === undefined || !('name' in parsed.target)) return;
      const { target, query } = parsed;
      const found = route(target.name, query?.get('ns') ?? undefined, hostHeader);
      if (found !== undefined && 'reference' in target) checkPlaces(found, target.reference);
    });
    fc.assert(property, { numRuns, seed });
  },
};

export const ranges: Fuzzed = {
  name: 'ranges',
  share: 200_000,
  check: (numRuns, seed) => {
    const headers = texts('bytes', 'bytes=', '0', '9', '-', '4096', '99999999999999999999', 'items', '1e3');
    const property = fc.property(headers, fc.nat(10_000), (header, size) => {
      const range = parseRange(header);
      if (range === undefined) return;
      try {
        const { start, end } = resolveRange(range, size);
        assert.ok(Number.isSafeInteger(start) && Number.isSafeInteger(end));
        assert.ok(start >= 0 && start <= end && end < size, `${start}-${end} of ${size}`);
      } catch (error) {
        assert.ok(error instanceof RangeUnsatisfiable, 'only RangeUnsatisfiable');
      }
    });
    fc.assert(property, { numRuns, seed });
  },
};

export const passwords: Fuzzed = {
  name: 'credentials of clients',
  share: 50_000,
  check: (numRuns, seed) => {
    const encoded = texts('user', ':', 'password').map((text) => Buffer.from(text).toString('base64'));
    const header = fc.oneof(
      encoded.map((text) => `Basic ${text}`),
      texts('Basic ', 'bearer ', 'dXNlcjpwYXNz', '='),
    );
    const property = fc.property(header, (text) => {
      const found = parseBasic(text);
      if (found === undefined) return;
      assert.ok(!found.username.includes(':'), 'a name ends at the first colon');
      // As it is sent on to an upstream.
      assert.ok(isHeaderSafe(Buffer.from(`${found.username}:${found.password}`).toString('base64')));
    });
    fc.assert(property, { numRuns, seed });
  },
};
