import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseDigest } from '../../src/oci/digest.js';
import {
  inspectManifest,
  mostReferences,
  ociIndex,
  ociManifest,
  references,
} from '../../src/oci/manifest.js';
import { parseRepository, parseTag } from '../../src/oci/name.js';
import { parseReference } from '../../src/oci/reference.js';
import type { Fuzzed } from './properties.js';
import { isHeaderSafe, texts } from './texts.js';

const digest = `sha256:${'0f'.repeat(32)}`;

const mediaTypes = fc.oneof(
  fc.constantFrom(ociIndex, ociManifest),
  texts('application/', 'vnd.oci.image', '+json', 'a/b'),
  fc.anything(),
);
const digests = fc.oneof(fc.constant(digest), texts('sha256:', digest, '../..'), fc.anything());
const descriptors = fc.oneof(
  fc.record(
    {
      mediaType: mediaTypes,
      digest: digests,
      blobSum: digests,
      size: fc.oneof(fc.integer(), fc.double(), fc.anything()),
      platform: fc.oneof(fc.record({ os: fc.anything(), architecture: fc.anything() }), fc.anything()),
    },
    { requiredKeys: [] },
  ),
  fc.anything(),
);
const lists = fc.oneof(fc.array(descriptors, { maxLength: 5 }), fc.anything());
const documents = fc.record(
  {
    schemaVersion: fc.constantFrom(1, 2, '2', null),
    mediaType: mediaTypes,
    config: descriptors,
    layers: lists,
    manifests: lists,
    blobs: lists,
    fsLayers: lists,
    subject: descriptors,
    __proto__: fc.anything(),
  },
  { requiredKeys: [] },
);

/** The bytes of a document, sometimes with a few of them changed. */
const bytes = fc
  .tuple(documents, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 2 }))
  .map(([document, changes]) => {
    const text = JSON.stringify(document, (_, value: unknown) =>
      typeof value === 'bigint' ? `${value}` : value,
    );
    const encoded = Buffer.from(text);
    for (const [place, value] of changes) encoded[place % encoded.length] = value;
    return encoded;
  });

export const manifests: Fuzzed = {
  name: 'manifests',
  share: 150_000,
  check: (numRuns, seed) => {
    const property = fc.property(fc.oneof({ weight: 9, arbitrary: bytes }, fc.uint8Array()), (given) => {
      const facts = inspectManifest(given);
      assert.ok(facts === undefined || isHeaderSafe(facts.mediaType), 'a header');
      const found = references(given);
      assert.ok(found.length <= mostReferences);
      assert.equal(new Set(found.map((each) => each.digest)).size, found.length, 'each once');
      for (const { digest: named, size } of found) {
        assert.equal(parseDigest(named), named, 'a digest');
        assert.ok(size === undefined || (Number.isSafeInteger(size) && size >= 0), 'a size');
      }
    });
    fc.assert(property, { numRuns, seed });
  },
};

export const imageReferences: Fuzzed = {
  name: 'references to images',
  share: 150_000,
  check: (numRuns, seed) => {
    const names = texts(
      'nginx',
      'ghcr.io',
      'library',
      '/',
      ':',
      '@',
      ':5000',
      digest,
      'latest',
      '[::1]',
      '__',
    );
    const property = fc.property(names, (text) => {
      const found = parseReference(text);
      if (found === undefined) return;
      assert.equal(parseRepository(found.name), found.name);
      assert.ok(found.tag === undefined || parseTag(found.tag) === found.tag);
      assert.ok(found.digest === undefined || parseDigest(found.digest) === found.digest);
      assert.ok(found.tag !== undefined || found.digest !== undefined);
      assert.match(found.host ?? 'x', /^[a-z0-9.:[\]-]+$/);
    });
    fc.assert(property, { numRuns, seed });
  },
};
