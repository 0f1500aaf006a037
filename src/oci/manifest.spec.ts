import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestOf } from './digest.js';
import {
  inspectManifest,
  mostReferences,
  mostValues,
  ociIndex,
  ociManifest,
  references,
} from './manifest.js';

const inspect = (value: unknown) => inspectManifest(Buffer.from(JSON.stringify(value)))?.mediaType;

describe('inspectManifest', () => {
  it('takes the declared media type', () => {
    const list = 'application/vnd.docker.distribution.manifest.list.v2+json';
    expect(inspect({ schemaVersion: 2, mediaType: list, manifests: [] })).toBe(list);
  });

  it('tells OCI documents without one by their structure', () => {
    expect(inspect({ schemaVersion: 2, manifests: [] })).toBe(ociIndex);
    expect(inspect({ schemaVersion: 2, config: {}, layers: [] })).toBe(ociManifest);
  });

  it('takes no document of more values than a manifest has, however deep they are', () => {
    const layers = '[],'.repeat(mostValues);
    expect(inspectManifest(Buffer.from(`{"layers":[${layers}0]}`))).toBeUndefined();
    const nested = '['.repeat(mostValues) + ']'.repeat(mostValues);
    expect(inspectManifest(Buffer.from(`{"layers":[${nested}]}`))).toBeUndefined();
  });

  it('takes a document whose strings hold as many commas and brackets as they like', () => {
    const text = String.raw`,[{\"`.repeat(mostValues);
    expect(inspect({ layers: [], annotations: { text } })).toBe(ociManifest);
  });

  it.each([null, 1, 'x', [], {}, { schemaVersion: 2 }])('%j is no manifest', (value) => {
    expect(inspect(value)).toBeUndefined();
  });

  it('lets no media type through that would be a broken header', () => {
    expect(inspect({ mediaType: 'a/b\r\nSet-Cookie: x', layers: [] })).toBe(ociManifest);
  });

  it('takes bytes that are no JSON without throwing', () => {
    expect(inspectManifest(Buffer.from('{'))).toBeUndefined();
    expect(inspectManifest(Buffer.from([0xff, 0xfe]))).toBeUndefined();
  });
});

const digest = (seed: string) => digestOf(Buffer.from(seed));
const refer = (value: unknown) => references(Buffer.from(JSON.stringify(value)));
const brief = (value: unknown) => refer(value).map(({ kind, digest: named, size }) => [kind, named, size]);

describe('references', () => {
  it('are the config and the layers of an image, and its subject', () => {
    const named = brief({
      mediaType: ociManifest,
      subject: { mediaType: ociManifest, digest: digest('subject'), size: 4 },
      config: { digest: digest('config'), size: 1 },
      layers: [
        { digest: digest('a'), size: 2 },
        { digest: digest('b'), size: 3 },
      ],
    });
    expect(named).toEqual([
      ['manifest', digest('subject'), 4],
      ['blob', digest('config'), 1],
      ['blob', digest('a'), 2],
      ['blob', digest('b'), 3],
    ]);
  });

  it('are the manifests of an index, with their platforms', () => {
    const index = {
      mediaType: 'application/vnd.docker.distribution.manifest.list.v2+json',
      manifests: [
        { digest: digest('arm'), size: 5, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } },
        { digest: digest('win'), size: 6, platform: { os: 'windows', architecture: 'amd64' } },
        { digest: digest('odd'), size: 7, platform: { os: 'linux' } },
      ],
    };
    expect(refer(index).map(({ kind, platform }) => ({ kind, platform }))).toEqual([
      { kind: 'manifest', platform: { os: 'linux', architecture: 'arm', variant: 'v7' } },
      { kind: 'manifest', platform: { os: 'windows', architecture: 'amd64', variant: undefined } },
      { kind: 'manifest', platform: undefined },
    ]);
  });

  it('are blobs where an index holds layers', () => {
    const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
    expect(brief({ manifests: [{ mediaType, digest: digest('a'), size: 1 }] })).toEqual([
      ['blob', digest('a'), 1],
    ]);
  });

  it('are the layers of schema 1, once each, and the blobs of an artifact', () => {
    const fsLayers = [{ blobSum: digest('a') }, { blobSum: digest('b') }, { blobSum: digest('a') }];
    expect(brief({ schemaVersion: 1, fsLayers })).toEqual([
      ['blob', digest('a'), undefined],
      ['blob', digest('b'), undefined],
    ]);
    expect(brief({ blobs: [{ digest: digest('c'), size: 9 }] })).toEqual([['blob', digest('c'), 9]]);
  });

  it('leave out what is malformed, and keep the rest', () => {
    const good = { digest: digest('a'), size: 1 };
    const bad = [null, 1, 'x', [], {}, { digest: 'sha256:../..' }, { digest: 7 }];
    expect(brief({ config: [good], layers: [...bad, good], manifests: good })).toEqual([
      ['blob', digest('a'), 1],
    ]);
  });

  it.each([-1, 1.5, '1', 2 ** 60, null])('have no size where it is said to be %j', (size) => {
    expect(brief({ layers: [{ digest: digest('a'), size }] })).toEqual([['blob', digest('a'), undefined]]);
  });

  it('are so many at most', () => {
    const layers = Array.from({ length: mostReferences + 5 }, (_, i) => ({ digest: digest(`${i}`) }));
    expect(refer({ layers })).toHaveLength(mostReferences);
  });

  it('come of any bytes without throwing', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          expect(references(bytes)).toBeInstanceOf(Array);
        },
      ),
    );
  });

  it('are all found among any other things, whatever stands between', () => {
    const entry = fc.oneof(
      fc.record({ digest: fc.string().map(digest), size: fc.nat(), annotations: fc.object() }),
      fc.anything(),
    );
    fc.assert(
      fc.property(fc.array(entry), fc.array(entry), fc.anything(), (layers, manifests, config) => {
        const wanted = new Set(
          (JSON.parse(JSON.stringify([...layers, ...manifests, config], plain) ?? '[]') as unknown[]).flatMap(
            (value) => (isDescriptor(value) ? [value.digest] : []),
          ),
        );
        const found = references(Buffer.from(JSON.stringify({ layers, manifests, config }, plain)));
        expect(new Set(found.map((each) => each.digest))).toEqual(wanted);
      }),
    );
  });
});

// JSON has no big integers.
function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}` : value;
}

function isDescriptor(value: unknown): value is { digest: string } {
  const text = (value as { digest?: unknown } | null)?.digest;
  return typeof text === 'string' && /^sha256:[a-f0-9]{64}$/.test(text);
}
