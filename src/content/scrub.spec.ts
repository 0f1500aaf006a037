import { describe, expect, it } from 'vitest';
import type { Coordinator, Lease } from '../cluster/cluster.js';
import { LocalCoordinator } from '../cluster/local/coordinator.js';
import { digestOf, type Digest } from '../oci/digest.js';
import type { JobRun, Problem, Progress, Removal } from '../scheduler/job.js';
import { StorageError, type BlobStore, type OpenBlob, type StoredBlob } from '../storage/storage.js';
import { createLogger } from '../telemetry/log.js';
import { BlobRemoval } from './blob-removal.js';
import { Scrubber, type Scrubbing } from './scrub.js';

class Stored {
  readonly blobs = new Map<Digest, Buffer>();
  away = false;
  readonly unreadable = new Set<Digest>();
  readonly opened: Digest[] = [];
  /** Done when a blob is opened. */
  whenOpened: (digest: Digest) => void = () => undefined;

  add(text: string): Digest {
    const digest = digestOf(Buffer.from(text));
    this.blobs.set(digest, Buffer.from(text));
    return digest;
  }

  rot(digest: Digest, bytes = Buffer.from('rotten')): void {
    this.blobs.set(digest, bytes);
  }

  get sorted(): Digest[] {
    return [...this.blobs.keys()].toSorted();
  }

  open = (digest: Digest): Promise<OpenBlob | undefined> => {
    this.opened.push(digest);
    this.whenOpened(digest);
    if (this.unreadable.has(digest)) return Promise.reject(new StorageError('io', 'bad sector'));
    const bytes = this.blobs.get(digest);
    if (bytes === undefined) return Promise.resolve(undefined);
    return Promise.resolve({
      size: bytes.length,
      range: undefined,
      body: (async function* () {
        for (let at = 0; at < bytes.length; at += 4) yield bytes.subarray(at, at + 4);
      })(),
      close: () => Promise.resolve(),
    });
  };

  async *listBlobs(after: Digest | undefined): AsyncGenerator<StoredBlob[]> {
    const all = this.sorted.filter((digest) => after === undefined || digest > after);
    while (all.length > 0) yield all.splice(0, 2).map((digest) => ({ digest, size: 0, modifiedMs: 0 }));
  }

  readonly transferring = new Set<Digest>();

  deleteBlob = (digest: Digest): Promise<boolean> => {
    this.blobs.delete(digest);
    return Promise.resolve(true);
  };
}

class Run implements JobRun {
  readonly controller = new AbortController();
  readonly signal = this.controller.signal;
  readonly steps: (string | undefined)[] = [];
  readonly removals: Removal[] = [];
  readonly told: Progress[] = [];
  readonly problems: Problem[] = [];

  constructor(
    readonly checkpoint: string | undefined = undefined,
    readonly dryRun = false,
  ) {}

  step(checkpoint?: string): Promise<void> {
    this.steps.push(checkpoint);
    return Promise.resolve();
  }

  mayDelete(): Promise<boolean> {
    return Promise.resolve(false);
  }

  problem(problem: Problem): void {
    this.problems.push(problem);
  }

  progress(progress: Progress): void {
    this.told.push(progress);
  }

  removed(removal: Removal): void {
    this.removals.push(removal);
  }
}

const log = createLogger({ level: 'error', formatter: 'json', fields: {} }, { write: () => undefined });

function scrub(
  stored: Stored,
  run: JobRun,
  options: Partial<Scrubbing> & { readonly coordinator?: Coordinator } = {},
) {
  const { coordinator = new LocalCoordinator(), ...scrubbing } = options;
  const blobs = { open: stored.open } as unknown as BlobStore;
  const scrubber = new Scrubber({
    inventory: {
      listBlobs: (after) => stored.listBlobs(after),
      listLinks: () => stored.listBlobs(undefined) as never,
      now: () => (stored.away ? Promise.reject(new StorageError('io', 'away')) : Promise.resolve(0)),
    },
    blobs,
    removal: new BlobRemoval({
      deletes: { deleteBlob: stored.deleteBlob, condemnBlob: stored.deleteBlob },
      coordinator: () => coordinator,
      transferring: (digest) => stored.transferring.has(digest),
    }),
    waitMs: 0,
    expectedBlobs: () => Promise.resolve(stored.blobs.size),
    log,
    observer: { read: () => undefined, rotten: () => undefined },
  });
  return scrubber.scrub(run, { rate: Infinity, ...scrubbing });
}

describe('Scrubber', () => {
  it('drops what is not what its digest says, and nothing else', async () => {
    const stored = new Stored();
    const [sound, flipped, truncated] = ['sound', 'flipped', 'truncated'].map((text) => stored.add(text));
    stored.rot(flipped as Digest, Buffer.from('fLipped'));
    stored.rot(truncated as Digest, Buffer.from('trunc'));
    const run = new Run();
    await expect(scrub(stored, run)).resolves.toEqual({ blobs: 3, bytes: 17, rotten: 2, unreadable: 0 });
    expect(stored.sorted).toEqual([sound]);
    expect(run.removals.map(({ reference, why }) => ({ reference, why }))).toEqual(
      [flipped, truncated].toSorted().map((reference) => ({ reference, why: 'rotten' })),
    );
  });

  it('says what it would drop, and drops nothing, in a dry run', async () => {
    const stored = new Stored();
    const digest = stored.add('a');
    stored.rot(digest);
    const run = new Run(undefined, true);
    await expect(scrub(stored, run)).resolves.toMatchObject({ rotten: 1 });
    expect(stored.sorted).toEqual([digest]);
    expect(run.removals).toHaveLength(1);
  });

  it('goes on after its checkpoint, in the order of digests', async () => {
    const stored = new Stored();
    for (let index = 0; index < 5; index += 1) stored.add(`blob ${index}`);
    const all = stored.sorted;
    const run = new Run(all[1]);
    await scrub(stored, run);
    expect(run.steps).toEqual(all.slice(2));
    expect(stored.opened).toEqual(all.slice(2));
  });

  it('leaves what somebody else has the lease of', async () => {
    const stored = new Stored();
    const digest = stored.add('a');
    stored.rot(digest);
    const coordinator: Coordinator = Object.assign(new LocalCoordinator(), {
      tryLead: (): Promise<Lease | undefined> => Promise.resolve(undefined),
    });
    await expect(scrub(stored, new Run(), { coordinator })).resolves.toMatchObject({ rotten: 0 });
    expect(stored.sorted).toEqual([digest]);
  });

  it('leaves what this process fetches', async () => {
    const stored = new Stored();
    const digest = stored.add('a');
    stored.rot(digest);
    stored.transferring.add(digest);
    await expect(scrub(stored, new Run())).resolves.toMatchObject({ rotten: 0 });
    expect(stored.sorted).toEqual([digest]);
  });

  it('leaves what was repaired between the first reading and the second', async () => {
    const stored = new Stored();
    const digest = stored.add('content');
    stored.rot(digest);
    stored.whenOpened = () => {
      if (stored.opened.length === 2) stored.add('content');
    };
    await expect(scrub(stored, new Run())).resolves.toMatchObject({ rotten: 0 });
    expect(stored.sorted).toEqual([digest]);
  });

  it('reports what cannot be read, and keeps it', async () => {
    const stored = new Stored();
    const [bad, good] = [stored.add('bad'), stored.add('good')];
    stored.unreadable.add(bad);
    const run = new Run();
    const summary = await scrub(stored, run);
    expect(summary).toEqual({ blobs: 2, bytes: 4, rotten: 0, unreadable: 1 });
    expect(run.problems.map(({ subject }) => subject)).toEqual([bad]);
    expect(stored.sorted).toEqual([bad, good].toSorted());
  });

  it('continues after many unreadable blobs in a row while the storage answers', async () => {
    const stored = new Stored();
    for (let index = 0; index < 30; index += 1) stored.unreadable.add(stored.add(`blob ${index}`));
    await expect(scrub(stored, new Run())).resolves.toMatchObject({ unreadable: 30 });
  });

  it('fails when the storage as a whole cannot be read', async () => {
    const stored = new Stored();
    for (let index = 0; index < 30; index += 1) stored.unreadable.add(stored.add(`blob ${index}`));
    stored.away = true;
    await expect(scrub(stored, new Run())).rejects.toMatchObject({ code: 'io' });
    expect(stored.opened).toHaveLength(10);
  });

  it('checks what was chosen alone', async () => {
    const stored = new Stored();
    const [a] = [stored.add('a'), stored.add('b')];
    const absent = digestOf(Buffer.from('absent'));
    await expect(scrub(stored, new Run(), { digests: [a, absent] })).resolves.toMatchObject({ blobs: 1 });
    expect(stored.opened).toEqual([a, absent]);
  });

  it('ends with what it was aborted with', async () => {
    const stored = new Stored();
    stored.add('a');
    const run = new Run();
    const reason = new Error('stopping');
    run.controller.abort(reason);
    await expect(scrub(stored, run)).rejects.toBe(reason);
  });
});
