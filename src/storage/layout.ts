import { algorithmOf, hexOf, parseDigest, type Digest, type DigestAlgorithm } from '../oci/digest.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../oci/name.js';
import { StorageError } from './storage.js';

/**
 * Registry's v2 layout (distribution, registry/storage/paths.go), relative to the store's root. The only place that
 * knows it. Everything of Cistern's own is below {@link ownFolder}, which registry never reads.
 */
const root = 'docker/registry/v2';
export const blobsFolder = `${root}/blobs`;
export const repositoriesFolder = `${root}/repositories`;
export const ownFolder = 'cistern';
/** Where spools are when the store is no folder. */
export const localSpools = '/var/lib/registry/spool';
/** Those that blobs are stored by, sorted. */
export const digestAlgorithms: readonly DigestAlgorithm[] = ['sha256', 'sha512'];
/** What registry:2's proxy mode leaves at the root: `repository@digest` with the time at which it would delete it. */
export const registrySchedule = 'scheduler-state.json';

/** Blobs, layers, revisions and a tag's history have a folder for each algorithm in theirs. */
export function digestsFolder(folder: string, algorithm: DigestAlgorithm): string {
  return `${folder}/${algorithm}`;
}

/** Holds the blobs whose hexadecimal digits begin with these two. */
export function pairFolder(algorithm: DigestAlgorithm, pair: string): string {
  return `${digestsFolder(blobsFolder, algorithm)}/${pair}`;
}

export function blobPath(digest: Digest): string {
  const hex = hexOf(digest);
  return `${pairFolder(algorithmOf(digest), hex.slice(0, 2))}/${hex}/data`;
}

/** Of which blob this is the path; `undefined`: it is none. */
export function parseBlobPath(path: string): Digest | undefined {
  const [algorithm, , hex] = path.slice(blobsFolder.length + 1).split('/');
  const digest = parseDigest(`${algorithm}:${hex}`);
  return digest !== undefined && blobPath(digest) === path ? digest : undefined;
}

export function layersFolder(repository: Repository): string {
  return `${repositoriesFolder}/${repository}/_layers`;
}

export function layerLinkPath(repository: Repository, digest: Digest): string {
  return linkPath(layersFolder(repository), digest);
}

/** There from a repository's first manifest on. */
export function revisionsFolder(repository: Repository): string {
  return `${manifestsFolder(repository)}/revisions`;
}

export function revisionLinkPath(repository: Repository, digest: Digest): string {
  return linkPath(revisionsFolder(repository), digest);
}

export function tagsFolder(repository: Repository): string {
  return `${manifestsFolder(repository)}/tags`;
}

export function tagFolder(repository: Repository, tag: Tag): string {
  return `${tagsFolder(repository)}/${tag}`;
}

export function tagCurrentPath(repository: Repository, tag: Tag): string {
  return `${tagFolder(repository, tag)}/current/link`;
}

/** All that the tag ever pointed to. */
export function tagIndexFolder(repository: Repository, tag: Tag): string {
  return `${tagFolder(repository, tag)}/index`;
}

export function tagIndexPath(repository: Repository, tag: Tag, digest: Digest): string {
  return linkPath(tagIndexFolder(repository, tag), digest);
}

/** A link file's place; `indexed`: in a tag's history. */
export type LinkPath =
  | { readonly kind: 'layer' | 'manifest'; readonly repository: Repository; readonly digest: Digest }
  | { readonly kind: 'current'; readonly repository: Repository; readonly tag: Tag }
  | { readonly kind: 'indexed'; readonly repository: Repository; readonly tag: Tag; readonly digest: Digest };

/** `undefined`: it is no link's. */
export function parseLinkPath(path: string): LinkPath | undefined {
  const parts = path.slice(repositoriesFolder.length + 1).split('/');
  const end = parts.findIndex((part) => part.startsWith('_')); // as no component of a name does
  const repository = parseRepository(parts.slice(0, end).join('/'));
  if (repository === undefined) return undefined;
  const digest = parseDigest(parts.slice(-3, -1).join(':'));
  const tag = parseTag(parts[end + 2] ?? '');
  if (digest !== undefined) {
    if (path === layerLinkPath(repository, digest)) return { kind: 'layer', repository, digest };
    if (path === revisionLinkPath(repository, digest)) return { kind: 'manifest', repository, digest };
  }
  if (tag === undefined) return undefined;
  if (path === tagCurrentPath(repository, tag)) return { kind: 'current', repository, tag };
  const indexed = digest !== undefined && path === tagIndexPath(repository, tag, digest);
  return indexed ? { kind: 'indexed', repository, tag, digest } : undefined;
}

/** A link file holds the digest it points to and nothing else. */
export function parseLink(bytes: Uint8Array): Digest | undefined {
  return parseDigest(Buffer.from(bytes).toString('utf8').trim());
}

/** Throws StorageError where they hold no digest. */
export function soundLink(path: string, bytes: Uint8Array): Digest {
  const digest = parseLink(bytes);
  if (digest === undefined) throw new StorageError('io', `${path} holds no digest`);
  return digest;
}

function linkPath(folder: string, digest: Digest): string {
  return `${digestsFolder(folder, algorithmOf(digest))}/${hexOf(digest)}/link`;
}

function manifestsFolder(repository: Repository): string {
  return `${repositoriesFolder}/${repository}/_manifests`;
}
