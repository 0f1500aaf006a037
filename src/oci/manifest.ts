import { parseDigest, type Digest } from './digest.js';

/** What a manifest says of itself. */
export interface ManifestFacts {
  readonly mediaType: string;
}

/** Where an image runs: OCI image-spec, "image index property descriptions". */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant: string | undefined;
}

/** Content that a manifest names. */
export interface Reference {
  /** Under which end point clients ask for it. */
  readonly kind: 'blob' | 'manifest';
  readonly digest: Digest;
  /** In bytes; `undefined` where the manifest does not say it, or nonsense. */
  readonly size: number | undefined;
  readonly platform: Platform | undefined;
}

export const ociIndex = 'application/vnd.oci.image.index.v1+json';
export const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const dockerList = 'application/vnd.docker.distribution.manifest.list.v2+json';
const dockerSchema1 = 'application/vnd.docker.distribution.manifest.v1+json';

const manifestTypes: ReadonlySet<string> = new Set([
  ociIndex,
  ociManifest,
  dockerList,
  'application/vnd.docker.distribution.manifest.v2+json',
  dockerSchema1,
  'application/vnd.docker.distribution.manifest.v1+prettyjws',
]);

/** Whether such a manifest is one of images, for several platforms. */
export function isIndex(mediaType: string): boolean {
  return mediaType === ociIndex || mediaType === dockerList;
}

/** No image names as many; what comes after these is left out. */
export const mostReferences = 10_000;

/**
 * A document of more values, however deep, is no manifest: ten for each of its references. Without a limit the 4 MiB
 * that a manifest may have hold the event loop for seconds: `[]` is two bytes, and parsing makes it an object.
 */
export const mostValues = 10 * mostReferences;

/**
 * Reads a manifest's media type from its bytes alone, so that it is the same after a restart and on every replica:
 * its `mediaType`, else by structure (OCI image-spec allows both documents without it). `undefined` where the bytes
 * are no manifest.
 */
export function inspectManifest(bytes: Uint8Array): ManifestFacts | undefined {
  const manifest = parseObject(bytes);
  const mediaType = manifest && typeOf(manifest);
  return mediaType === undefined ? undefined : { mediaType };
}

/** Both of what this module reads, at the cost of one parse; `undefined` where the bytes are no manifest. */
export function readManifest(
  bytes: Uint8Array,
): (ManifestFacts & { readonly references: readonly Reference[] }) | undefined {
  const manifest = parseObject(bytes);
  const mediaType = manifest && typeOf(manifest);
  return manifest === undefined || mediaType === undefined
    ? undefined
    : { mediaType, references: referencesIn(manifest) };
}

function typeOf(manifest: Record<string, unknown>): string | undefined {
  const declared = manifest['mediaType'];
  if (typeof declared === 'string' && isMediaType(declared)) return declared;
  if (manifest['schemaVersion'] === 1) return dockerSchema1;
  if (Array.isArray(manifest['manifests'])) return ociIndex;
  if (Array.isArray(manifest['layers']) || typeof manifest['config'] === 'object') {
    return ociManifest;
  }
  return undefined;
}

/**
 * All content that a manifest names, once each, in the manifest's order: the subject, the manifests of an index, the
 * config and the layers of an image, the blobs of an artifact, the layers of Docker's schema 1. What is malformed is
 * left out, so bytes that are no manifest name nothing.
 */
export function references(bytes: Uint8Array): Reference[] {
  const manifest = parseObject(bytes);
  return manifest === undefined ? [] : referencesIn(manifest);
}

function referencesIn(manifest: Record<string, unknown>): Reference[] {
  const found = new Map<Digest, Reference>();
  const add = (kind: Reference['kind'], value: unknown): void => {
    const reference = parseDescriptor(kind, value);
    if (reference !== undefined && found.size < mostReferences && !found.has(reference.digest)) {
      found.set(reference.digest, reference);
    }
  };
  add('manifest', manifest['subject']);
  for (const child of arrayOf(manifest['manifests'])) add(kindOfChild(child), child);
  add('blob', manifest['config']);
  for (const list of ['layers', 'blobs', 'fsLayers']) {
    for (const layer of arrayOf(manifest[list])) add('blob', layer);
  }
  return [...found.values()];
}

/** BuildKit keeps layers in an index, where clients then look for them as blobs. */
function kindOfChild(value: unknown): Reference['kind'] {
  const type = isObject(value) ? value['mediaType'] : undefined;
  return typeof type !== 'string' || manifestTypes.has(type) ? 'manifest' : 'blob';
}

function parseDescriptor(kind: Reference['kind'], value: unknown): Reference | undefined {
  if (!isObject(value)) return undefined;
  const text = value['digest'] ?? value['blobSum'];
  const digest = typeof text === 'string' ? parseDigest(text) : undefined;
  if (digest === undefined) return undefined;
  const { size } = value;
  const sound = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0;
  return { kind, digest, size: sound ? size : undefined, platform: parsePlatform(value['platform']) };
}

function parsePlatform(value: unknown): Platform | undefined {
  if (!isObject(value)) return undefined;
  const { os, architecture, variant } = value;
  if (typeof os !== 'string' || typeof architecture !== 'string') return undefined;
  return { os, architecture, variant: typeof variant === 'string' ? variant : undefined };
}

function parseObject(bytes: Uint8Array): Record<string, unknown> | undefined {
  if (hasMoreValues(bytes, mostValues)) return undefined;
  try {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
    const document: unknown = JSON.parse(text);
    return isObject(document) ? document : undefined;
  } catch {
    return undefined;
  }
}

/** Each value but the first one follows a bracket, a brace or a comma that is not in a string. */
function hasMoreValues(json: Uint8Array, most: number): boolean {
  let count = 0;
  let inString = false;
  for (let at = 0; at < json.byteLength; at += 1) {
    const byte = json[at];
    if (byte === quote) inString = !inString;
    else if (inString && byte === backslash) at += 1;
    else if (!inString && (byte === comma || byte === openBracket || byte === openBrace)) count += 1;
  }
  return count > most;
}

const quote = '"'.charCodeAt(0);
const backslash = '\\'.charCodeAt(0);
const comma = ','.charCodeAt(0);
const openBracket = '['.charCodeAt(0);
const openBrace = '{'.charCodeAt(0);

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function arrayOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

// What is stored is later sent as a header: only what RFC 6838 allows in a type's name.
function isMediaType(text: string): boolean {
  return /^[a-zA-Z0-9][\w!#$&^.+-]{0,126}\/[a-zA-Z0-9][\w!#$&^.+-]{0,126}$/.test(text);
}
