import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';

export const jobNames = ['expire', 'evict', 'reindex', 'sweep', 'scrub', 'prewarm'] as const;
export type JobName = (typeof jobNames)[number];

/** Work that one replica does for all of them, again and again. */
export interface Job {
  readonly name: JobName;
  /**
   * In small steps. A run that ends before its time, with its process or its lease, is gone on with by another replica
   * from the last checkpoint; so each step may be done twice. Throws what `signal` was aborted with.
   */
  run(run: JobRun): Promise<JobSummary>;
}

export interface JobRun {
  /** What the replica that began this run had saved; `undefined`: this is its beginning. */
  readonly checkpoint: string | undefined;
  /** Nothing is to be changed, only said. */
  readonly dryRun: boolean;
  /** Aborted when this replica stops, may not go on, or whoever asked for the run has left. */
  readonly signal: AbortSignal;
  /** Between two steps: saves where another replica would go on, and throws when this one may not. */
  step(checkpoint?: string): Promise<void>;
  /**
   * Whether content may be deleted now: `storage.delete.enabled`, and a configured Redis has kept its memory for
   * long enough (rule 8). Asked before each removal of content.
   */
  mayDelete(): Promise<boolean>;
  /** How far it is, for whoever watches. */
  progress(progress: Progress): void;
  /** The job skips something that the storage or an upstream refuses, and continues. */
  problem(problem: Problem): void;
  /** Something was removed, or would be in a dry run. */
  removed(removal: Removal): void;
}

export interface Progress {
  /** What is being done: `reading links`. */
  readonly doing: string;
  readonly done: number;
  /** `undefined`: not known yet. */
  readonly total: number | undefined;
}

/** Something that a job skips, and the reason. */
export interface Problem {
  /** A digest, an image or a path. */
  readonly subject: string;
  readonly message: string;
}

/** The number of problems in a run, and the first few of them. */
export interface Problems {
  readonly count: number;
  readonly first: readonly Problem[];
}

export interface Removal {
  readonly what: 'tag' | 'manifest' | 'layer' | 'blob' | 'upload' | 'file' | 'record';
  readonly repository: Repository | undefined;
  /** What identifies it there. */
  readonly reference: Digest | Tag | string;
  /** Bytes that the storage has back; 0 for what only pointed to content. */
  readonly bytes: number;
  readonly why: RemovalReason;
}

/** As operators read it in the log and in the output of commands. */
export type RemovalReason =
  | 'expired' // not used for the time of `proxy.ttl`
  | 'evicted' // the least recently used, when there was too much
  | 'unreferenced' // nothing points to it any more
  | 'untagged' // asked for by `garbage-collect --delete-untagged`
  | 'dangling' // it points to content that is not there
  | 'abandoned' // begun long ago, and never finished
  | 'rotten' // its content is not what its digest says
  | 'purged'; // asked for by name

/** What a run did: counts by name, in the log's words (`blobs`, `bytes`, `manifests`). */
export type JobSummary = Readonly<Record<string, number>>;
