import type { Digest } from '../oci/digest.js';
import type { Repository, Tag } from '../oci/name.js';
import type { JobRun, JobSummary } from '../scheduler/job.js';

/** A tag, or a manifest that no tag points to and no other manifest refers to. */
export interface CachedImage {
  readonly repository: Repository;
  readonly tag: Tag | undefined;
  readonly digest: Digest;
  /** Of all content of it that is here; what images share counts for each. */
  readonly bytes: number;
  /** In milliseconds since 1970: of it, or of anything that it refers to. */
  readonly lastUsedMs: number;
}

/** Of all that is here, when it was last looked through. */
export interface ContentTotals {
  readonly blobs: number;
  readonly bytes: number;
  /** Of these, what is hidden already and will be deleted when its time has come. */
  readonly hiddenBytes: number;
  readonly atMs: number;
}

/**
 * What is kept and what goes (rule 8). Content goes in two steps: what points to it goes first, so that nobody is led
 * to it any more; when nothing has pointed to it for the grace, the content itself goes.
 */
export interface ContentKeeper {
  /** What was not used for its time to live, and what was hidden long enough ago. */
  expire(run: JobRun): Promise<JobSummary>;
  /** The least recently used, while there is too much. */
  evict(run: JobRun): Promise<JobSummary>;
  /** Looks through the storage, and gives Redis what it should know. */
  reindex(run: JobRun): Promise<JobSummary>;
  /** Uploads, files and links that lead nowhere, and content that nothing points to. */
  sweep(run: JobRun): Promise<JobSummary>;
  /** All that is due now: expire, evict and sweep with one look through the storage; `untagged`: those too. */
  collect(run: JobRun, untagged: boolean): Promise<JobSummary>;
  /** Forgets an image by tag or digest at once; what only it refers to goes by the next runs. `undefined`: all tags and manifests of the repository. */
  purge(repository: Repository, reference: Tag | Digest | undefined, run: JobRun): Promise<JobSummary>;
  /** Looks through the storage, then gives the images by repository and tag, in pages. */
  images(run: Pick<JobRun, 'progress' | 'problem' | 'signal'>): AsyncIterable<readonly CachedImage[]>;
  /** `undefined`: nobody has looked yet. */
  totals(): Promise<ContentTotals | undefined>;
}
