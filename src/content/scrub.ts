import { hashFor, parseDigest, type Digest } from '../oci/digest.js';
import type { Job, JobRun, JobSummary } from '../scheduler/job.js';
import { StorageError, type BlobStore, type Inventory } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { BlobRemoval } from './blob-removal.js';
import { Pace } from './pace.js';

/** After so many blobs in a row that cannot be read, the storage as a whole is looked at. */
const mostUnreadable = 10;
const progressMs = 500;

export interface ScrubberParts {
  readonly inventory: Inventory;
  readonly blobs: BlobStore;
  readonly removal: BlobRemoval;
  /** After this time in milliseconds no presigned address of content is valid any more. */
  readonly waitMs: number;
  /** How many blobs there are, as far as somebody has counted. */
  readonly expectedBlobs: () => Promise<number | undefined>;
  readonly log: Logger;
  readonly observer: ScrubObserver;
}

export interface ScrubObserver {
  read(bytes: number): void;
  rotten(): void;
}

export interface Scrubbing {
  /** In bytes a second. */
  readonly rate: number;
  /** In this order; without it all that is stored, by digest, on from the run's checkpoint. */
  readonly digests?: readonly Digest[];
}

interface Counts {
  blobs: number;
  bytes: number;
  rotten: number;
  unreadable: number;
}

/** What became of one blob. `gone`: deleted since it was listed. */
type Verdict = 'sound' | 'rotten' | 'unreadable' | 'gone';

/**
 * Reads content again and drops what is no longer what its digest says, so that the next pull brings it anew. That is
 * done whatever `storage.delete.enabled` says: it is no content.
 */
export class Scrubber {
  constructor(private readonly parts: ScrubberParts) {}

  /** Throws StorageError where the storage as a whole cannot be read, and what the run was aborted with. */
  async scrub(run: JobRun, scrubbing: Scrubbing): Promise<JobSummary> {
    const counts: Counts = { blobs: 0, bytes: 0, rotten: 0, unreadable: 0 };
    const reading = new Reading(
      run,
      new Pace(scrubbing.rate),
      await this.#total(scrubbing),
      this.parts.observer,
    );
    let failing = 0;
    for await (const digest of this.#digests(run, scrubbing.digests)) {
      const verdict = await this.#check(run, digest, reading, counts);
      failing = verdict === 'unreadable' ? failing + 1 : 0;
      if (verdict !== 'gone') counts.blobs += 1;
      if (failing > 0 && failing % mostUnreadable === 0) await this.parts.inventory.now();
      reading.blobs += 1;
      await run.step(digest);
    }
    return { ...counts };
  }

  async #total({ digests }: Scrubbing): Promise<number | undefined> {
    return digests === undefined ? this.parts.expectedBlobs() : digests.length;
  }

  async *#digests(run: JobRun, chosen: readonly Digest[] | undefined): AsyncGenerator<Digest> {
    if (chosen !== undefined) {
      yield* chosen;
      return;
    }
    const after = run.checkpoint === undefined ? undefined : parseDigest(run.checkpoint);
    for await (const page of this.parts.inventory.listBlobs(after, run.signal)) {
      for (const { digest } of page) yield digest;
    }
  }

  async #check(run: JobRun, digest: Digest, reading: Reading, counts: Counts): Promise<Verdict> {
    try {
      const found = await this.#read(digest, reading);
      if (found === undefined) return await this.#clear(run, digest);
      counts.bytes += found.bytes;
      if (found.sound) return 'sound';
      if (!(await this.#drop(run, digest, reading))) return 'gone';
      counts.rotten += 1;
      return 'rotten';
    } catch (err) {
      // It may be the disk, the network or a right: what is there is not known to be wrong.
      if (!(err instanceof StorageError)) throw err;
      counts.unreadable += 1;
      run.problem({ subject: digest, message: err.message });
      return 'unreadable';
    }
  }

  /** `undefined`: it is not there. */
  async #read(
    digest: Digest,
    reading: Reading,
  ): Promise<{ readonly sound: boolean; readonly bytes: number } | undefined> {
    const blob = await this.parts.blobs.open(digest);
    if (blob === undefined) return undefined;
    try {
      const hash = hashFor(digest);
      let bytes = 0;
      for await (const chunk of blob.body) {
        hash.update(chunk);
        bytes += chunk.byteLength;
        await reading.took(chunk.byteLength);
      }
      return { sound: digest.endsWith(`:${hash.digest('hex')}`), bytes };
    } finally {
      await blob.close();
    }
  }

  /** Deletes content that an earlier run marked as rotten, if no replica has stored it anew, after the last address ended. */
  async #clear({ dryRun }: JobRun, digest: Digest): Promise<'gone'> {
    const { inventory, removal, waitMs } = this.parts;
    if (!dryRun) await removal.delete(digest, (await inventory.now()) - waitMs);
    return 'gone';
  }

  /** Reads the content once more, and deletes it if it is still rotten. `false`: a replica has stored it anew. */
  async #drop(run: JobRun, digest: Digest, reading: Reading): Promise<boolean> {
    const { inventory, removal, observer, log } = this.parts;
    const writtenBy = (await inventory.now()) - 1;
    let bytes = 0;
    const isRotten = async (): Promise<boolean> => {
      const again = await this.#read(digest, reading);
      bytes = again?.bytes ?? 0;
      return again?.sound === false;
    };
    if (!(await (run.dryRun ? isRotten() : removal.condemn(digest, writtenBy, isRotten)))) return false;
    observer.rotten();
    log.error({ digest, bytes, removed: !run.dryRun }, 'a blob has rotted');
    run.removed({ what: 'blob', repository: undefined, reference: digest, bytes, why: 'rotten' });
    return true;
  }
}

/** How far one run is, and at its pace. */
class Reading {
  blobs = 0;
  #told = -Infinity;

  constructor(
    private readonly run: JobRun,
    private readonly pace: Pace,
    private readonly total: number | undefined,
    private readonly observer: ScrubObserver,
  ) {}

  async took(bytes: number): Promise<void> {
    this.observer.read(bytes);
    const now = performance.now();
    if (now - this.#told >= progressMs) {
      this.#told = now;
      const total = this.total === undefined ? undefined : Math.max(this.total, this.blobs);
      this.run.progress({ doing: 'checking blobs', done: this.blobs, total });
    }
    await this.pace.after(bytes, this.run.signal);
  }
}

/** All that is stored, from time to time, at a rate that leaves the disks to others. */
export class ScrubJob implements Job {
  readonly name = 'scrub';

  constructor(
    private readonly scrubber: Scrubber,
    private readonly rate: number,
  ) {}

  run(run: JobRun): Promise<JobSummary> {
    return this.scrubber.scrub(run, { rate: this.rate });
  }
}
