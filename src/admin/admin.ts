import {
  jobNames,
  type JobName,
  type JobSummary,
  type Problems,
  type Progress,
  type Removal,
} from '../scheduler/job.js';

/** What operators may ask for by a command or the admin API (docs/openapi.yaml). Images are as in `docker pull`. */
export type AdminTask =
  | { readonly task: 'images' }
  | { readonly task: 'gc'; readonly dryRun: boolean; readonly untagged: boolean }
  /** Without an image all that is stored. */
  | { readonly task: 'verify'; readonly dryRun: boolean; readonly image: string | undefined }
  | { readonly task: 'prewarm'; readonly images: readonly string[]; readonly platforms: readonly string[] }
  /** `all`: every tag and manifest of the image's repository. */
  | { readonly task: 'purge'; readonly dryRun: boolean; readonly image: string; readonly all: boolean }
  | { readonly task: 'refresh'; readonly image: string }
  | { readonly task: 'run'; readonly job: JobName; readonly dryRun: boolean };

/** What is told of a task: any number of the others, then one `result` or `error`, in JSON one a line. */
export type AdminEvent =
  | ({ readonly type: 'progress' } & Progress)
  /** Or would be, in a dry run. `repository` as users write it. */
  | ({ readonly type: 'removed'; readonly repository: string | undefined } & Omit<Removal, 'repository'>)
  | ({ readonly type: 'image' } & ListedImage)
  | { readonly type: 'refreshed'; readonly image: string; readonly digest: string; readonly moved: boolean }
  /** What could not be done, while the rest was: a blob that cannot be read, an image that is not to be had. */
  | { readonly type: 'problem'; readonly subject: string; readonly message: string }
  | { readonly type: 'result'; readonly summary: JobSummary }
  | { readonly type: 'error'; readonly code: AdminCode; readonly message: string };

export interface ListedImage {
  /** As users write it, without tag and digest. */
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: string;
  readonly bytes: number;
  /** ISO 8601. */
  readonly lastUsed: string;
}

/** A job as any replica shows it. Times are ISO 8601. */
export interface ListedJob {
  readonly name: JobName;
  /** As in the configuration: `24h`, `0 3 * * *`, `never`. */
  readonly schedule: string;
  readonly next: string | undefined;
  /** The run that is going on, or the last one. */
  readonly run:
    | {
        /** `stopped`: left to another replica. */
        readonly outcome: 'running' | 'stopped' | 'done' | 'failed';
        /** Host name and a random part of the replica's. */
        readonly runner: string;
        readonly began: string;
        readonly ended: string | undefined;
        readonly summary: JobSummary | undefined;
        readonly error: string | undefined;
        /** The problems of the run; `undefined` if there were none. */
        readonly problems: Problems | undefined;
        readonly progress: Progress | undefined;
      }
    | undefined;
}

/** A mirror as operators see it: this process, or one that runs elsewhere. */
export interface Administration {
  jobs(signal: AbortSignal): Promise<readonly ListedJob[]>;
  /** Throws AdminError before the first event; what fails later is an event. Leaving it ends the work. */
  run(task: AdminTask, signal: AbortSignal): AsyncIterable<AdminEvent>;
}

export type AdminCode =
  | 'invalid' // asked for in a way that makes no sense
  | 'unauthorized' // without the token, or with a wrong one
  | 'unknown' // no such image, job or upstream
  | 'busy' // another run of the same is under way
  | 'unavailable' // not now: Redis or the storage is away, or the mirror is ending
  | 'upstream' // the upstream did not give it
  | 'storage' // the storage is in trouble
  | 'failed'; // anything else: the mirror's log tells more

export class AdminError extends Error {
  override readonly name = 'AdminError';
  constructor(
    readonly code: AdminCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

export function isJobName(text: string): text is JobName {
  return jobNames.some((name) => name === text);
}
