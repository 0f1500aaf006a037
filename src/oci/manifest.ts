/** What a manifest says of itself. */
export interface ManifestFacts {
  readonly mediaType: string;
}

export const ociIndex = 'application/vnd.oci.image.index.v1+json';
export const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const dockerSchema1 = 'application/vnd.docker.distribution.manifest.v1+json';

/**
 * Reads a manifest's media type from its bytes alone, so that it is the same after a restart and on every replica:
 * its `mediaType`, else by structure (OCI image-spec allows both documents without it). `undefined` where the bytes
 * are no manifest.
 */
export function inspectManifest(bytes: Uint8Array): ManifestFacts | undefined {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) return undefined;
  const manifest = document as Record<string, unknown>;
  const declared = manifest['mediaType'];
  if (typeof declared === 'string' && isMediaType(declared)) return { mediaType: declared };
  if (manifest['schemaVersion'] === 1) return { mediaType: dockerSchema1 };
  if (Array.isArray(manifest['manifests'])) return { mediaType: ociIndex };
  if (Array.isArray(manifest['layers']) || typeof manifest['config'] === 'object') {
    return { mediaType: ociManifest };
  }
  return undefined;
}

// What is stored is later sent as a header: only what RFC 6838 allows in a type's name.
function isMediaType(text: string): boolean {
  return /^[a-zA-Z0-9][\w!#$&^.+-]{0,126}\/[a-zA-Z0-9][\w!#$&^.+-]{0,126}$/.test(text);
}
