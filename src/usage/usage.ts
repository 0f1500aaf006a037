import type { Digest } from '../oci/digest.js';
import type { Repository } from '../oci/name.js';

/**
 * Who uses what. Uses are gathered in memory and written behind the requests, at the latest after half a minute; a
 * use of a manifest is one of all that it refers to, which whoever reads the log works out.
 */
export interface UsageRecorder {
  /** A manifest or a blob was asked for under this repository, and given. */
  touch(repository: Repository, digest: Digest): void;
  /** The same, for as long as it is being read: it counts as used now until the returned function is called. */
  hold(repository: Repository, digest: Digest): () => void;
  /** Bytes that this process has added to the store. */
  stored(bytes: number): void;
}

export interface Use {
  readonly repository: Repository;
  readonly digest: Digest;
  /** In seconds since 1970. */
  readonly at: number;
}

/** What all replicas have written of uses. */
export interface UsageHistory {
  /** What was known when {@link save} was last called, in pages; then what replicas have noted since. */
  read(signal: AbortSignal): AsyncIterable<readonly Use[]>;
  /**
   * Replaces what is known by these uses. What replicas noted is kept for an hour more, so that of two that save at
   * the same time neither forgets anything; uses may therefore be read again, and the latest counts.
   */
  save(uses: Iterable<Use>, signal: AbortSignal): Promise<void>;
  /** Of this process alone, and not yet written: the second of a use that others cannot know of. */
  unwritten(repository: Repository, digest: Digest): number | undefined;
  /** Bytes that replicas say they have added to the store since this time, in milliseconds since 1970. */
  storedSince(ms: number, signal: AbortSignal): Promise<number>;
}
