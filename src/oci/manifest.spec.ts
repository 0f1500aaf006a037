import { describe, expect, it } from 'vitest';
import { inspectManifest, ociIndex, ociManifest } from './manifest.js';

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
