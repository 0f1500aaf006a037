import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deletionSettledMs, StorageError } from '../../src/storage/storage.js';
import type { StoredContent } from '../../src/content/stored-content.js';
import type { Digest } from '../../src/oci/digest.js';
import { ociIndex, ociManifest } from '../../src/oci/manifest.js';
import type { JobRun } from '../../src/scheduler/job.js';
import { addressed, grace, Model, repositoryOf, split, tagOf, wait } from './model.js';

const repositories = ['team/app', 'team/web', 'ghcr.io/team/app'].map(repositoryOf);
const tags = ['v1', 'v2', 'latest'].map(tagOf);
const ttl = 10_000;
/** A little less than two of five images need. */
const maxBytes = 700;

/** Images that share layers, indexes that share images, and what refers to an image as its subject. */
interface Graph {
  /** Layers of each image. */
  readonly images: readonly (readonly number[])[];
  /** Images of each index. */
  readonly indexes: readonly (readonly number[])[];
  /** The subject of each referrer. */
  readonly referrers: readonly number[];
}

const graph: fc.Arbitrary<Graph> = fc.record({
  images: fc.array(fc.uniqueArray(fc.nat(7), { minLength: 1, maxLength: 4 }), { minLength: 2, maxLength: 5 }),
  indexes: fc.array(fc.uniqueArray(fc.nat(4), { minLength: 1, maxLength: 3 }), { maxLength: 2 }),
  referrers: fc.array(fc.nat(4), { maxLength: 2 }),
});

type Event =
  | {
      readonly kind: 'pull';
      readonly repository: number;
      readonly root: number;
      readonly tag: number;
      readonly parts: number;
      /** Another replica does it; this one cannot know before the use is written down. */
      readonly elsewhere: boolean;
    }
  | { readonly kind: 'blob'; readonly repository: number; readonly layer: number }
  | { readonly kind: 'time'; readonly seconds: number }
  | { readonly kind: 'flush' }
  /** A layer rots on its disk. */
  | { readonly kind: 'rot'; readonly layer: number }
  /** The clocks of this replica and of another one are off from now on. */
  | { readonly kind: 'clocks'; readonly here: number; readonly elsewhere: number }
  | { readonly kind: 'redis'; readonly mayDelete: boolean };

interface JobEvent {
  readonly kind: 'job';
  readonly job: 'expire' | 'evict' | 'sweep' | 'reindex' | 'collect' | 'purge' | 'scrub';
  readonly repository: number;
  readonly tag: number;
  /** What happens at which step or removal of the run. */
  readonly meanwhile: readonly (readonly [at: number, event: Event])[];
  /** At which of them the replica dies. */
  readonly dies: number | undefined;
  /** How many seconds deletions take to arrive at a bucket. */
  readonly late: readonly number[];
}

const pull: fc.Arbitrary<Event & { readonly kind: 'pull' }> = fc.record({
  kind: fc.constant('pull' as const),
  repository: fc.nat(2),
  root: fc.nat(8),
  tag: fc.nat(3),
  parts: fc.nat(255),
  elsewhere: fc.boolean(),
});
const clock = fc.constantFrom(0, -7200, -1200, 1200, 7200);
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: pull },
  fc.record({ kind: fc.constant('blob' as const), repository: fc.nat(2), layer: fc.nat(7) }),
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('time' as const),
      seconds: fc.constantFrom(1, 5, 60, grace - 1, grace, wait, ttl / 2, ttl),
    }),
  },
  fc.constant({ kind: 'flush' as const }),
  fc.record({ kind: fc.constant('rot' as const), layer: fc.nat(7) }),
  fc.record({ kind: fc.constant('clocks' as const), here: clock, elsewhere: clock }),
  fc.record({ kind: fc.constant('redis' as const), mayDelete: fc.boolean() }),
);
const job: fc.Arbitrary<JobEvent> = fc.record({
  kind: fc.constant('job' as const),
  job: fc.constantFrom('expire', 'evict', 'sweep', 'reindex', 'collect', 'purge', 'scrub'),
  repository: fc.nat(2),
  tag: fc.nat(3),
  meanwhile: fc.array(fc.tuple(fc.nat(24), event), { maxLength: 4 }),
  dies: fc.option(fc.nat(20), { nil: undefined }),
  late: fc.array(fc.constantFrom(0, 3, 9, 66), { minLength: 1, maxLength: 4 }),
});
const again: fc.Arbitrary<readonly [number, Event]> = fc.tuple(
  fc.nat(24),
  fc.oneof(pull, fc.record({ kind: fc.constant('blob' as const), repository: fc.nat(2), layer: fc.nat(7) })),
);
/** An image expires, and clients come for it again while its content is being deleted. */
const comesBack: fc.Arbitrary<readonly (Event | JobEvent)[]> = fc
  .record({
    pull: pull.map((each) => ({ ...each, parts: 255, elsewhere: false })),
    meanwhile: fc.array(again, { minLength: 1, maxLength: 6 }),
    late: fc.array(fc.constantFrom(0, 3, 9, 66), { minLength: 1, maxLength: 4 }),
  })
  .map(({ pull: first, meanwhile, late }): readonly (Event | JobEvent)[] => {
    const collect = { kind: 'job', job: 'collect', repository: 0, tag: 1, dies: undefined, late } as const;
    return [
      { kind: 'redis', mayDelete: true },
      first,
      { kind: 'time', seconds: ttl },
      { ...collect, meanwhile: [] },
      { kind: 'time', seconds: wait },
      { ...collect, meanwhile },
      { kind: 'time', seconds: deletionSettledMs / 1000 + 1 },
      ...meanwhile.map(([, event]) => event),
      { kind: 'time', seconds: 60 },
      { ...collect, meanwhile: [] },
    ];
  });
const alone = <T>(one: T): readonly T[] => [one];
const history = fc
  .array(
    fc.oneof(
      { weight: 6, arbitrary: event.map(alone<Event | JobEvent>) },
      { weight: 4, arbitrary: job.map(alone<Event | JobEvent>) },
      { weight: 1, arbitrary: comesBack },
    ),
    { minLength: 4, maxLength: 30 },
  )
  .map((parts) => parts.flat());

const store = fc.constantFrom<'folder' | 'bucket'>('folder', 'bucket');

class Died extends Error {}

function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`does not hold: ${what}`);
}

interface Cached {
  readonly blobs: ReadonlySet<Digest>;
  readonly links: ReadonlySet<string>;
}

/** The mirror with a history of events, watched for what must never happen. */
class Watched {
  readonly model: Model;
  readonly #layers: Digest[];
  readonly #roots: Digest[];
  /** When each content was last given to a client, in seconds. */
  readonly #given = new Map<string, number>();
  /** What there was when a manifest was given in the middle of a run. */
  readonly #whenGiven = new Map<string, Cached>();
  /** Uses that this replica could not, or may not, know of in the run. */
  #unknownUses = false;
  /** Uses may be dated long ago, so that links go, but never content. */
  #wrongClocks = false;
  #running = false;
  readonly #options = {
    ttlOf: () => ttl * 1000,
    ttls: 'one',
    shortestTtlMs: ttl * 1000,
    maxBytes,
  };
  #content: StoredContent;

  constructor({ images, indexes, referrers }: Graph, store: 'folder' | 'bucket') {
    const model = new Model(store);
    this.model = model;
    this.#content = model.content(this.#options);
    this.#layers = Array.from({ length: 8 }, (_, n) => model.offer(`${n}`.repeat(40 + n)));
    const descriptor = (digest: Digest | undefined): object => ({ digest, size: 1 });
    const manifests = images.map((layers) =>
      model.offer({ mediaType: ociManifest, layers: layers.map((n) => descriptor(this.#layers[n])) }),
    );
    const one = (n: number): object => descriptor(manifests[n % manifests.length]);
    this.#roots = [
      ...manifests,
      ...indexes.map((parts) => model.offer({ mediaType: ociIndex, manifests: parts.map(one) })),
      ...referrers.map((subject, n) =>
        model.offer({ mediaType: ociManifest, subject: one(subject), layers: [descriptor(this.#layers[n])] }),
      ),
    ];
  }

  apply(event: Event): void {
    const { model } = this;
    switch (event.kind) {
      case 'pull':
        this.model.elsewhere = event.elsewhere;
        this.#unknownUses ||= event.elsewhere;
        this.#pull(event);
        this.model.elsewhere = false;
        break;
      case 'blob':
        this.#give(event.repository, this.#layers[event.layer], false);
        break;
      case 'time':
        model.pass(event.seconds);
        // Replicas write down what was used at least every half minute.
        if (event.seconds >= 30) this.#flush();
        break;
      case 'flush':
        this.#flush();
        break;
      case 'rot': {
        const layer = this.#layers[event.layer];
        if (layer !== undefined) model.rot(layer);
        break;
      }
      case 'clocks':
        model.skew = event;
        this.#wrongClocks = this.#unknownUses = true;
        break;
      case 'redis':
        model.mayDelete = event.mayDelete;
        break;
    }
  }

  #flush(): void {
    this.model.flush();
    this.#unknownUses &&= this.#running || this.#wrongClocks;
  }

  async run(event: JobEvent): Promise<void> {
    const { model } = this;
    const before = this.#cached();
    model.late = event.late;
    let moment = 0;
    this.#running = true;
    this.#whenGiven.clear();
    model.meanwhile = () => {
      if (moment === event.dies) throw new Died();
      for (const [at, other] of event.meanwhile) if (at === moment) this.apply(other);
      moment += 1;
    };
    const wereDeletable = model.mayDelete || event.meanwhile.some(([, { kind }]) => kind === 'redis');
    const blobsBefore = model.blobs.size;
    try {
      await this.#start(event, model.run());
    } catch (error) {
      // The storage did not answer a deletion in time: the run fails like the run of a replica that dies.
      if (!(error instanceof Died) && !(error instanceof StorageError)) throw error;
      // Another replica goes on, with an index of its own.
      this.#content.close();
      this.#content = model.content(this.#options);
    } finally {
      model.meanwhile = () => undefined;
      this.#running = false;
    }
    if (!wereDeletable && event.job !== 'scrub')
      must(model.blobs.size >= blobsBefore, 'nothing may be deleted');
    this.#expectNothingBroken(before, event.job === 'purge');
  }

  async #start({ job: name, repository, tag }: JobEvent, run: JobRun): Promise<void> {
    const stored = repositories[repository];
    if (stored === undefined) return;
    if (name === 'scrub') await this.model.scrub();
    else if (name === 'collect') await this.#content.collect(run, tag % 2 === 0);
    else if (name === 'purge') await this.#content.purge(stored, tags[tag], run);
    else await this.#content[name](run);
  }

  /** Two passes, each after its wait, leave nothing of what nothing leads to; and the store becomes small enough. */
  async end(): Promise<void> {
    const { model } = this;
    model.mayDelete = true;
    model.late = [0];
    model.skew = { here: 0, elsewhere: 0 };
    // Uses that a wrong clock dated in the future are in the past now.
    if (this.#wrongClocks) model.pass(7200);
    // An index remembers the references of a deleted manifest for a day.
    this.#content.close();
    const pass = async (): Promise<void> => {
      model.pass(wait);
      model.flush();
      await this.#content.collect(model.run(), false);
    };
    const lost = model.unreferenced();
    await pass();
    await pass();
    const left = new Set(model.unreferenced());
    must(!lost.some((digest) => left.has(digest)), 'what nothing leads to is gone after two passes');
    await pass();
    must(model.bytes <= maxBytes, `the store has ${model.bytes} bytes`);
    this.#content.close();
  }

  /** A manifest, and of what it refers to as much as this client wants. */
  #pull({ repository, root, tag, parts }: Event & { kind: 'pull' }): void {
    const digest = this.#roots[root % this.#roots.length];
    const wants = (digest: Digest, at: number): void => {
      for (const [n, child] of this.model.childrenOf(digest).entries()) {
        if ((parts & (1 << ((n + at) % 8))) === 0) continue;
        const isManifest = this.#roots.includes(child);
        this.#give(repository, child, isManifest);
        if (isManifest) wants(child, at + 3);
      }
    };
    if (digest === undefined) return;
    this.#give(repository, digest, true, tags[tag]);
    wants(digest, 0);
  }

  #give(
    repository: number,
    digest: Digest | undefined,
    manifest: boolean,
    tag = undefined as (typeof tags)[number] | undefined,
  ): void {
    const name = repositories[repository];
    if (name === undefined || digest === undefined) return;
    const key = `${name}@${digest}`;
    if (manifest) this.model.pullManifest(name, digest, tag);
    else this.model.pullBlob(name, digest);
    if (manifest && this.#running) this.#whenGiven.set(key, this.#cached());
    const isLinked = this.model.layers.has(key) || this.model.manifests.has(key);
    // Content without a link was only passed through: the next pull fetches it again.
    if (isLinked) this.#given.set(key, this.model.now);
  }

  #cached(): Cached {
    const { blobs, layers, manifests } = this.model;
    const shown = [...blobs.keys()].filter((digest) => this.model.shows(digest));
    return { blobs: new Set(shown), links: new Set([...layers, ...manifests]) };
  }

  #expectNothingBroken(before: Cached, purged: boolean): void {
    const { model } = this;
    const after = this.#cached();
    for (const key of model.manifests) {
      const { repository, digest } = split(key);
      const { blobs, links } = this.#whenGiven.get(key) ?? before;
      for (const child of [digest, ...model.childrenOf(digest)]) {
        if (blobs.has(child) && !model.lost.has(child)) must(after.blobs.has(child), `content of ${key}`);
        const link = `${repository}@${child}`;
        // A sweep removes the link to content that was rotten; the next pull brings both again.
        if (links.has(link) && !purged && !this.#unknownUses && !model.lost.has(child))
          must(after.links.has(link), `a part of ${key}`);
      }
    }
    for (const [tag, digest] of model.tags) {
      const repository = tag.slice(0, tag.lastIndexOf(':'));
      const manifest = `${repository}@${digest}`;
      // Another replica's tag came in between: a sweep takes it away, or the next pull mends it.
      if (this.#unknownUses && !model.manifests.has(manifest)) model.tags.delete(tag);
      else must(model.manifests.has(manifest), tag);
    }
    for (const [key, at] of this.#given) {
      // An address of it may still be used, or its bytes be on their way.
      const { digest } = split(key);
      if (at >= model.now - addressed && !model.lost.has(digest))
        must(after.blobs.has(digest), `given just now: ${key}`);
      if (at > model.now - grace && !purged && !this.#unknownUses && !model.lost.has(digest))
        must(after.links.has(key), `given just now: ${key}`);
      if (!after.links.has(key)) this.#given.delete(key);
    }
  }
}

describe('rule 8: jobs that take content away', () => {
  it('never break an image, leave nothing behind, and keep the store small, whatever happens meanwhile', async () => {
    const holds = fc.assert(
      fc.asyncProperty(graph, store, history, async (images, kind, events) => {
        const watched = new Watched(images, kind);
        for (const each of events) {
          if (each.kind === 'job') await watched.run(each);
          else watched.apply(each);
        }
        await watched.end();
      }),
      { numRuns: Number(process.env['HISTORIES'] ?? 300) },
    );
    await expect(holds).resolves.toBeUndefined();
  }, 36_000_000);
});
