import { createHash, randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, linkSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as breathe } from 'node:timers/promises';
import { parseDigest, type Digest } from '../src/oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../src/oci/name.js';
import * as layout from '../src/storage/layout.js';
import { formatJournal, journalKey, useKey } from '../src/usage/records.js';

const layersPerImage = 8;
/** With its manifest and configuration. */
export const blobsPerImage = layersPerImage + 2;
const imagesPerRepository = 100;
/** As many as were used in the half minute that a journal tells of. */
const imagesPerJournal = 250;
const mebibyte = 1024 * 1024;
const daySeconds = 24 * 60 * 60;
/** From the image that was used least recently to the last one. */
const usedDaysAgo = { first: 30, last: 1 };
export const types = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
};

export interface StoredBlob {
  readonly digest: Digest;
  readonly size: number;
}

export interface StoredImage {
  readonly manifest: StoredBlob;
  /** Layers and configuration. */
  readonly parts: readonly StoredBlob[];
}

export interface LargeStore {
  readonly blobs: number;
  /** Of all blobs. */
  readonly bytes: number;
}

/**
 * Writes a store of so many blobs as a mirror leaves it, each image with its own layers and its own last use. Only
 * manifests have content: nothing reads the others, whose files are holes of the right size.
 */
export async function writeLargeStore(root: string, blobs: number, signal: AbortSignal): Promise<LargeStore> {
  const images = blobs / blobsPerImage;
  const now = Math.floor(Date.now() / 1000);
  let bytes = 0;
  let uses = new Map<string, number>();
  for (let n = 0; n < images; n += 1) {
    signal.throwIfAborted();
    const ageDays = usedDaysAgo.first - ((usedDaysAgo.first - usedDaysAgo.last) * n) / images;
    const at = Math.floor(now - ageDays * daySeconds);
    const repository = known(parseRepository(`bench/app-${Math.floor(n / imagesPerRepository)}`));
    const { parts, manifest } = writeImage(root);
    linkImage(root, repository, known(parseTag(`v${n}`)), { parts, manifest });
    for (const { digest, size } of [...parts, manifest]) {
      bytes += size;
      uses.set(useKey(repository, digest), at);
    }
    if ((n + 1) % imagesPerJournal !== 0 && n + 1 < images) continue;
    writeFile(join(root, layout.ownFolder, journalKey('bench', at * 1000)), formatJournal(0, uses));
    uses = new Map();
    await breathe();
  }
  return { blobs: images * blobsPerImage, bytes };
}

/** Synchronously: a file's few system calls take less time than handing them to other threads. */
export function writeImage(root: string): StoredImage {
  const parts = Array.from({ length: layersPerImage + 1 }, (_, part): StoredBlob => {
    const size = part === 0 ? 4096 : mebibyte + Math.floor(Math.random() * 49 * mebibyte);
    return { digest: digestFrom(randomBytes(32)), size };
  });
  const [config, ...layers] = parts.map(({ digest, size }, part) => ({
    mediaType: part === 0 ? types.config : types.layer,
    digest,
    size,
  }));
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: types.manifest, config, layers }));
  const digest = digestFrom(createHash('sha256').update(bytes).digest());
  for (const part of parts) writeHole(join(root, layout.blobPath(part.digest)), part.size);
  writeFile(join(root, layout.blobPath(digest)), bytes);
  return { manifest: { digest, size: bytes.byteLength }, parts };
}

/** The links of an image under a repository and a tag. `like`: a repository that has the same ones, to share their files. */
export function linkImage(
  root: string,
  repository: Repository,
  tag: Tag,
  { manifest, parts }: StoredImage,
  like?: Repository,
): void {
  const write = (digest: Digest, pathIn: (repository: Repository) => string): void => {
    const path = join(root, pathIn(repository));
    if (like === undefined) return writeFile(path, digest);
    mkdirSync(dirname(path), { recursive: true });
    linkSync(join(root, pathIn(like)), path);
  };
  for (const { digest } of parts) write(digest, (of) => layout.layerLinkPath(of, digest));
  const { digest } = manifest;
  write(digest, (of) => layout.revisionLinkPath(of, digest));
  write(digest, (of) => layout.tagCurrentPath(of, tag));
  // No pull reads it, and it is three folders and a file.
  if (like === undefined) write(digest, (of) => layout.tagIndexPath(of, tag, digest));
}

function writeFile(path: string, bytes: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
}

function writeHole(path: string, size: number): void {
  mkdirSync(dirname(path), { recursive: true });
  const fd = openSync(path, 'wx');
  ftruncateSync(fd, size);
  closeSync(fd);
}

function digestFrom(hash: Buffer): Digest {
  return known(parseDigest(`sha256:${hash.toString('hex')}`));
}

export function known<T>(parsed: T | undefined): T {
  if (parsed === undefined) throw new Error('a generated name is none');
  return parsed;
}
