import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '../../src/oci/digest.js';
import { commandOf } from './debian.js';
import { randomBytes } from './random-bytes.js';
import { tar, type TarEntry } from './tar.js';

/** Bytes with the descriptor that tells them (OCI image-spec, "descriptor"). */
export interface Content {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly bytes: Buffer;
}

export interface Layer extends Content {
  /** Of the uncompressed tar. */
  readonly diffId: Digest;
}

export type Format = 'oci' | 'docker';

export interface Image {
  readonly platform: Platform;
  readonly manifest: Content;
  readonly config: Content;
  readonly layers: readonly Layer[];
}

export interface ImageIndex {
  readonly manifest: Content;
  readonly images: readonly Image[];
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
}

const mediaTypes = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json',
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
} as const;

export const linuxAmd64: Platform = { os: 'linux', architecture: 'amd64' };

export function contentOf(mediaType: string, bytes: Buffer): Content {
  return { mediaType, digest: digestOf(bytes), size: bytes.byteLength, bytes };
}

export function jsonContent(mediaType: string, value: unknown): Content {
  return contentOf(mediaType, Buffer.from(JSON.stringify(value)));
}

export function layerOf(files: Readonly<Record<string, TarEntry>>, format: Format = 'oci'): Layer {
  return compressed(tar(files), format, 6);
}

/** A layer of about `size` bytes, on the wire too: what it holds does not compress. */
export function randomLayer(size: number, seed: string, format: Format = 'oci'): Layer {
  return compressed(tar({ [`random-${seed}`]: randomBytes(size, seed) }), format, 0);
}

function compressed(bytes: Buffer, format: Format, level: number): Layer {
  return { ...contentOf(mediaTypes[format].layer, gzipSync(bytes, { level })), diffId: digestOf(bytes) };
}

export interface ImageOptions {
  readonly layers: readonly Layer[];
  readonly format?: Format;
  readonly platform?: Platform;
  /** What runs, as in a Dockerfile's CMD. */
  readonly command?: readonly string[];
  /** Further members of the manifest, such as `subject`, `artifactType` or `annotations`. */
  readonly manifest?: Readonly<Record<string, unknown>>;
}

export function imageOf(options: ImageOptions): Image {
  const { layers, format = 'oci', platform = linuxAmd64, command = ['/bin/sh'] } = options;
  const types = mediaTypes[format];
  const config = jsonContent(types.config, {
    ...platform,
    config: { Cmd: command },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map(() => ({ created_by: 'test' })),
  });
  const manifest = jsonContent(types.manifest, {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: descriptorOf(config),
    layers: layers.map((layer) => descriptorOf(layer)),
    ...options.manifest,
  });
  return { platform, manifest, config, layers };
}

export function indexOf(images: readonly Image[], format: Format = 'oci'): ImageIndex {
  const mediaType = mediaTypes[format].index;
  const manifest = jsonContent(mediaType, {
    schemaVersion: 2,
    mediaType,
    manifests: images.map((image) => ({ ...descriptorOf(image.manifest), platform: image.platform })),
  });
  return { manifest, images };
}

/** An image that runs anywhere, from Debian's static busybox; with further layers where given. */
export function busyboxImage(options: Partial<ImageOptions> = {}): Image {
  const format = options.format ?? 'oci';
  const applets = ['sh', 'echo', 'sleep', 'cat', 'sha256sum', 'httpd', 'wget'];
  const base = layerOf(
    {
      'bin/busybox': { bytes: readFileSync(commandOf('busybox')), mode: 0o755 },
      ...Object.fromEntries(applets.map((applet) => [`bin/${applet}`, { link: 'bin/busybox' }])),
    },
    format,
  );
  return imageOf({ ...options, format, layers: [base, ...(options.layers ?? [])] });
}

export function descriptorOf({ mediaType, digest, size }: Content): Omit<Content, 'bytes'> {
  return { mediaType, digest, size };
}

/** Everything that an image or an index consists of, blobs before the manifests that name them. */
export function contentsOf(item: Image | ImageIndex): { blobs: Content[]; manifests: Content[] } {
  if (!('images' in item)) return { blobs: [item.config, ...item.layers], manifests: [item.manifest] };
  const parts = item.images.map((image) => contentsOf(image));
  return {
    blobs: parts.flatMap(({ blobs }) => blobs),
    manifests: [...parts.flatMap(({ manifests }) => manifests), item.manifest],
  };
}
