import type { Descriptor } from '../oci/descriptor.js';
import type { EntryList } from '../oci/entry-list.js';
import type { ByteRange } from '../oci/range.js';

/**
 * What the proxy gives to the registry API. `undefined` means that the content is not to be had: the upstream said
 * so, or there is none. Trouble is thrown: UpstreamError, StorageError, DigestMismatch.
 */

/**
 * How an answer came about. `hit`: from the store, nobody was asked. `revalidated`: from the store, after the
 * upstream said that it is still right. `stale`: from the store, the upstream could not be asked. `miss`: from the
 * upstream.
 */
export type Outcome = 'hit' | 'revalidated' | 'stale' | 'miss';

export interface Manifest extends Descriptor {
  readonly bytes: Buffer;
}

/** Where a tag points, or what a digest is. */
export interface Resolved {
  readonly descriptor: Descriptor;
  readonly outcome: Outcome;
  /** Seconds since the upstream last confirmed it; `undefined` where that is not known. */
  readonly age: number | undefined;
  /** Until when it holds without asking anybody, by `performance.now()`; `undefined` where that is not known. */
  readonly until?: number;
  /** Why it is stale. */
  readonly warning: string | undefined;
}

export interface ManifestAnswer {
  readonly resolved: Resolved;
  readonly manifest: Manifest;
}

/** A blob, or a range of one, whose first byte can be had. The caller closes it. */
export interface BlobAnswer {
  /** Of the whole blob, in bytes; `undefined` while a running transfer's upstream has not said it. */
  readonly size: number | undefined;
  /** What `body` gives; `undefined`: all of it. */
  readonly range: ByteRange | undefined;
  readonly outcome: Outcome;
  /** Once. Breaks off with an error rather than end early. */
  readonly body: AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** A listing, with how it came about. */
export interface ListingAnswer {
  readonly list: EntryList;
  readonly outcome: Outcome;
  readonly warning: string | undefined;
}
