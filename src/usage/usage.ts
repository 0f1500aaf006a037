import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';

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

/**
 * What all replicas have written of uses: a snapshot, and what each has noted since. What was noted is kept for an hour
 * after it came into a snapshot, so that of two that write one at the same time neither forgets anything; a use may
 * therefore be read again, and the latest counts.
 */
export interface UsageHistory {
  /** In pages. Goes on past a record that cannot be read. */
  snapshot(signal: AbortSignal, skip: SkipUses): AsyncIterable<readonly Use[]>;
  /**
   * What replicas have noted, at least what no snapshot has yet; in pages. `since`: only what was written after this
   * time, in milliseconds since 1970, for a caller that has read the rest. Goes on past a record that cannot be read.
   */
  noted(signal: AbortSignal, skip: SkipUses, since?: number): AsyncIterable<readonly Use[]>;
  /** Of this process alone, and not yet written; what is being read now is used now. */
  unwritten(): Iterable<Use>;
  /** Tells of each use in this process at the moment when it is noted, until the result is disposed of. */
  watch(told: (repository: Repository, digest: Digest) => void): Disposable;
  /** Brings what was noted into the snapshot. */
  compact(signal: AbortSignal): Promise<void>;
  /** Replaces the snapshot: is given the uses of digests whose hexadecimal digits begin like this, in pages. */
  save(usesOf: (prefix: string) => Iterable<readonly Use[]>, signal: AbortSignal): Promise<void>;
  /** Bytes that replicas say they have added to the store since this time, in milliseconds since 1970. */
  storedSince(ms: number, signal: AbortSignal): Promise<number>;
}

/** Uses that a record would tell of, if it could be read. */
export interface UnknownUses {
  readonly record: string;
  readonly error: Error;
  /** What their digests' hexadecimal digits begin with; empty: anything. */
  readonly prefix: string;
  /** The second since 1970 that none of them was after. */
  readonly until: number;
}

/** Takes note of them. Throws where reading is to end. */
export type SkipUses = (uses: UnknownUses) => Promise<void>;

/** An image that runs somewhere: by digest, or whatever the tag points to here. */
export interface InUse {
  readonly repository: Repository;
  readonly reference: Digest | Tag;
}

/** What is used without anybody asking for it: it is neither expired nor evicted. */
export interface InUseHistory {
  /** In pages. Goes on past a record that cannot be read. Throws what the signal was aborted with. */
  images(
    signal: AbortSignal,
    skip: (record: string, error: Error) => Promise<void>,
  ): AsyncIterable<readonly InUse[]>;
  /** Why not all that runs is known, for operators; `undefined`: it is. */
  unknown(): Promise<string | undefined>;
}
