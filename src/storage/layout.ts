import { algorithmOf, hexOf, parseDigest, type Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';

/**
 * Registry's v2 layout (distribution, registry/storage/paths.go), relative to the store's root. The only place that
 * knows it. Everything of Cistern's own is below {@link ownFolder}, which registry never reads.
 */
const root = 'docker/registry/v2';
export const blobsFolder = `${root}/blobs`;
export const repositoriesFolder = `${root}/repositories`;
export const ownFolder = 'cistern';
/** What registry:2's proxy mode leaves at the root: `repository@digest` with the time at which it would delete it. */
export const registrySchedule = 'scheduler-state.json';

export function blobPath(digest: Digest): string {
  const hex = hexOf(digest);
  return `${root}/blobs/${algorithmOf(digest)}/${hex.slice(0, 2)}/${hex}/data`;
}

export function layerLinkPath(repository: Repository, digest: Digest): string {
  return `${repositoriesFolder}/${repository}/_layers/${algorithmOf(digest)}/${hexOf(digest)}/link`;
}

/** There from a repository's first manifest on. */
export function revisionsFolder(repository: Repository): string {
  return `${manifestsFolder(repository)}/revisions`;
}

export function revisionLinkPath(repository: Repository, digest: Digest): string {
  return `${revisionsFolder(repository)}/${algorithmOf(digest)}/${hexOf(digest)}/link`;
}

export function tagsFolder(repository: Repository): string {
  return `${manifestsFolder(repository)}/tags`;
}

export function tagCurrentPath(repository: Repository, tag: Tag): string {
  return `${tagsFolder(repository)}/${tag}/current/link`;
}

export function tagIndexPath(repository: Repository, tag: Tag, digest: Digest): string {
  return `${tagsFolder(repository)}/${tag}/index/${algorithmOf(digest)}/${hexOf(digest)}/link`;
}

/** A link file holds the digest it points to and nothing else. */
export function parseLink(bytes: Uint8Array): Digest | undefined {
  return parseDigest(Buffer.from(bytes).toString('utf8').trim());
}

function manifestsFolder(repository: Repository): string {
  return `${repositoriesFolder}/${repository}/_manifests`;
}
