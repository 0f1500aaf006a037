import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';
import type { StorageError, VerifiedFile } from '../storage/storage.js';
import { UpstreamError, type Upstream } from '../upstream/upstream.js';

/** An upstream's repository that may have the blob, and that repository's name in the store. */
export interface Source {
  readonly upstream: Upstream;
  readonly repository: Repository;
  readonly stored: Repository;
}

/**
 * Why the content that the store has under a digest cannot be used: the size in bytes of wrong content, or the error
 * that occurred when opening it.
 */
export type Unusable = number | StorageError;

/** Whether a blob of this size in the store can be used. */
export function isUsable(size: number, unusable: Unusable | undefined): boolean {
  return unusable === undefined || (typeof unusable === 'number' && unusable !== size);
}

/** A transfer, as whoever fills it sees it. */
export interface Filling {
  readonly digest: Digest;
  /** Bytes that are in the spool. */
  readonly length: number;
  readonly size: number | undefined;
  /** Whether a source has given or confirmed the blob: see {@link isProven}. */
  readonly isOpen: boolean;
  /** Aborts when the transfer is given up. */
  readonly signal: AbortSignal;
  /** The first repository that is not refused; `undefined`: none is left, and none that comes now is asked. */
  nextSource(): Source | undefined;
  /** Fails the readers of one repository. */
  refuse(source: Source, error: UpstreamError): void;
  /** The blob can be had: by this source's word, and so large where that is known. Readers may be answered. */
  open(source: Source, size: number | undefined): void;
  /** Takes a copy of the chunk; settles when there is room for more. */
  append(chunk: Uint8Array): Promise<void>;
}

/** How a transfer gets its bytes, and what becomes of them. One for each transfer. */
export interface Filler {
  /** Settles when all bytes are in the spool. Throws why they never will be. */
  fill(filling: Filling): Promise<void>;
  /** Takes the verified content into the store, and links it in these repositories. */
  store(file: VerifiedFile, repositories: readonly Repository[], signal: AbortSignal): Promise<void>;
  /** Last, whatever happened. */
  close(stored: boolean): Promise<void>;
}

/** All bytes are here; whether they are right is found out next. */
export function isWhole({ length, size }: Filling): boolean {
  return size !== undefined && length === size;
}

/**
 * Whether the bytes of another source, of this size, may enter the spool: after a source has given or confirmed a blob
 * of the same size. An upstream that gives a blob without a size confirms no other content (rule 7).
 */
export function isProven({ isOpen, size }: Filling, otherSize: number | undefined): boolean {
  return isOpen && otherSize !== undefined && size === otherSize;
}

/**
 * Whether the source's upstream names the same size for the blob. `refused`: it does not have the blob or cannot be
 * asked, so the source is dropped; throws if that was the last source. `unproven`: it names another size, or none.
 */
export async function confirmSize(
  source: Source,
  filling: Filling,
  size: number,
): Promise<'confirmed' | 'refused' | 'unproven'> {
  try {
    const said = await source.upstream.headBlob(source.repository, filling.digest, filling.signal);
    return said === size ? 'confirmed' : 'unproven';
  } catch (error) {
    if (!(error instanceof UpstreamError)) throw error;
    filling.refuse(source, error);
    if (filling.nextSource() === undefined) throw error;
    return 'refused';
  }
}
