import type { Scrubber } from '../content/scrub.js';
import type { ContentKeeper } from '../content/content.js';
import type { Digest } from '../oci/digest.js';
import { parseRepository, type Repository } from '../oci/name.js';
import { parseReference, type ImageReference } from '../oci/reference.js';
import { PrewarmJob } from '../prewarm/prewarm-job.js';
import type { ImageWarmer } from '../prewarm/image-warmer.js';
import { parsePlatform } from '../prewarm/platform.js';
import type { Tags } from '../proxy/tags.js';
import type { Job, JobName, JobSummary, Problem, Progress, Removal } from '../scheduler/job.js';
import type { Scheduler } from '../scheduler/scheduler.js';
import type { BlobStore, RepositoryStore } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { RouteError, type Route, type UpstreamDirectory } from '../upstream/directory.js';
import { AdminError, type Administration, type AdminEvent, type AdminTask, type ListedJob } from './admin.js';
import { Channel } from './channel.js';
import { toAdminError } from './failures.js';
import { contentOf } from './image-content.js';
import { listedJob } from './listed-job.js';

export interface OperationsParts {
  readonly keeper: ContentKeeper;
  readonly scheduler: Pick<Scheduler, 'runNow' | 'jobs' | 'registered'>;
  /** Why nothing may be deleted now. */
  readonly undeletable: () => Promise<string | undefined>;
  readonly scrubber: Scrubber;
  readonly warmer: ImageWarmer;
  readonly directory: UpstreamDirectory;
  readonly tags: Tags;
  readonly repositories: RepositoryStore;
  readonly blobs: BlobStore;
  readonly log: Logger;
}

type Tell = Channel<AdminEvent>;

/** Does what operators ask for, in this process. */
export class Operations implements Administration {
  constructor(private readonly parts: OperationsParts) {}

  async jobs(): Promise<readonly ListedJob[]> {
    return (await this.parts.scheduler.jobs()).map(listedJob);
  }

  async *run(task: AdminTask, signal: AbortSignal): AsyncGenerator<AdminEvent> {
    const work = this.#prepare(task);
    const left = new AbortController();
    const channel: Tell = new Channel();
    const ended = this.#work(work, channel, AbortSignal.any([signal, left.signal]));
    try {
      yield* channel.read();
      signal.throwIfAborted();
    } finally {
      left.abort(new AdminError('failed', 'whoever asked for this has left'));
      await ended;
    }
  }

  async #work(work: Work, channel: Tell, signal: AbortSignal): Promise<void> {
    try {
      channel.tell({ type: 'result', summary: await work(channel, signal) });
    } catch (error) {
      if (signal.aborted) return; // nobody reads on
      const { code, message } = toAdminError(error);
      if (code === 'failed') this.parts.log.error({ err: error }, 'an operation failed');
      channel.tell({ type: 'error', code, message });
    } finally {
      channel.end();
    }
  }

  /** What to do; throws AdminError where that makes no sense. */
  #prepare(task: AdminTask): Work {
    const { keeper } = this.parts;
    switch (task.task) {
      case 'images':
        return (channel, signal) => this.#list(channel, signal);
      case 'gc':
        return this.#deleting(task.dryRun, (run) => keeper.collect(run, task.untagged));
      case 'verify':
        return this.#verify(task.image, task.dryRun);
      case 'prewarm':
        return this.#prewarm(task.images, task.platforms);
      case 'purge': {
        const { stored, reference } = this.#stored(task.image);
        return this.#deleting(task.dryRun, async (run) => {
          if (!task.all) await this.#rootOf(stored, reference);
          return keeper.purge(stored, task.all ? undefined : (reference.digest ?? reference.tag), run);
        });
      }
      case 'refresh':
        return this.#refresh(task.image);
      case 'run':
        return this.#registered(task.job, task.dryRun);
    }
  }

  #registered(name: JobName, dryRun: boolean): Work {
    const job = this.parts.scheduler.registered(name);
    if (job === undefined) throw new AdminError('unknown', `this mirror has no job ${name}`);
    return this.#job(name, dryRun, (run) => job.run(run));
  }

  /** Under the job's lease. */
  #job(name: JobName, dryRun: boolean, run: Job['run']): Work {
    return (channel, signal) =>
      this.parts.scheduler.runNow(name, {
        dryRun,
        signal,
        onProgress: (progress) => channel.tellLatest({ type: 'progress', ...progress }),
        onProblem: (problem) => channel.tell({ type: 'problem', ...problem }),
        onRemoved: (removal) => channel.tell(this.#removed(removal)),
        job: { name, run: atReadersPace(run, channel) },
      });
  }

  /** Under the lease of `sweep`, of which it is a part. */
  #deleting(dryRun: boolean, run: Job['run']): Work {
    return async (channel, signal) => {
      const why = await this.parts.undeletable();
      if (why !== undefined) channel.tell({ type: 'problem', subject: 'nothing is deleted', message: why });
      return this.#job('sweep', dryRun, run)(channel, signal);
    };
  }

  #removed({ repository, ...removal }: Removal): AdminEvent {
    return {
      type: 'removed',
      repository: repository && this.parts.directory.imageName(repository),
      ...removal,
    };
  }

  async #list(channel: Tell, signal: AbortSignal): Promise<JobSummary> {
    const progress = (progress: Progress): void => channel.tellLatest({ type: 'progress', ...progress });
    const problem = (problem: Problem): void => channel.tell({ type: 'problem', ...problem });
    let images = 0;
    for await (const page of this.parts.keeper.images({ progress, problem, signal })) {
      for (const { repository, lastUsedMs, ...image } of page) {
        channel.tell({
          type: 'image',
          repository: this.parts.directory.imageName(repository),
          ...image,
          lastUsed: new Date(lastUsedMs).toISOString(),
        });
      }
      images += page.length;
      await channel.ready(signal);
    }
    return { images };
  }

  #verify(image: string | undefined, dryRun: boolean): Work {
    const chosen = image === undefined ? undefined : this.#stored(image);
    return (channel, signal) => {
      const run: Job['run'] = async (run) => {
        const { blobs, scrubber } = this.parts;
        const root = chosen && (await this.#rootOf(chosen.stored, chosen.reference));
        const digests = root && (await contentOf(blobs, root, run.signal));
        return scrubber.scrub(run, { rate: Infinity, ...(digests && { digests }) });
      };
      return this.#job('scrub', dryRun, run)(channel, signal);
    };
  }

  /** The image's manifest. Throws AdminError where it is not here. */
  async #rootOf(stored: Repository, { tag, digest }: ImageReference): Promise<Digest> {
    const { repositories, directory } = this.parts;
    const root = digest ?? (tag && (await repositories.readTag(stored, tag)));
    if (root !== undefined && (await repositories.hasManifest(stored, root))) return root;
    const name = `${directory.imageName(stored)}${digest === undefined ? `:${tag}` : `@${digest}`}`;
    throw new AdminError('unknown', `${name} is not stored here`);
  }

  #prewarm(images: readonly string[], platforms: readonly string[]): Work {
    const unsound = platforms.find((platform) => parsePlatform(platform) === undefined);
    if (unsound !== undefined) throw new AdminError('invalid', `not a platform: ${JSON.stringify(unsound)}`);
    if (images.length === 0) throw new AdminError('invalid', 'no image is named');
    for (const image of images) this.#route(image);
    return (channel, signal) => {
      const job = new PrewarmJob({
        warmer: this.parts.warmer,
        images: images.map((image) => ({ image, platforms })),
        log: this.parts.log,
      });
      return this.#job('prewarm', false, (run) => job.run(run))(channel, signal);
    };
  }

  #refresh(image: string): Work {
    const { route, reference } = this.#route(image);
    const { tag } = reference;
    if (tag === undefined) throw new AdminError('invalid', `${image} names a digest, which never changes`);
    if (route.upstream === undefined)
      throw new AdminError('unknown', `no upstream is configured for ${image}`);
    return async (channel, signal) => {
      const before = await this.parts.repositories.readTag(route.stored, tag);
      const resolved = await this.parts.tags.refresh(route, tag, signal);
      if (resolved === undefined) throw new AdminError('unknown', `${image} is not to be had`);
      const { digest } = resolved.descriptor;
      channel.tell({ type: 'refreshed', image, digest, moved: digest !== before });
      return {};
    };
  }

  #route(image: string): { readonly route: Route; readonly reference: ImageReference } {
    const reference = parse(image);
    try {
      return { reference, route: this.parts.directory.route({ ns: reference.host, name: reference.name }) };
    } catch (error) {
      throw toAdminError(error);
    }
  }

  /** Its name in the store, also where its upstream is configured no more. */
  #stored(image: string): { readonly stored: Repository; readonly reference: ImageReference } {
    const reference = parse(image);
    const { host, name } = reference;
    try {
      return { reference, stored: this.parts.directory.route({ ns: host, name }).stored };
    } catch (error) {
      const stored = error instanceof RouteError && host !== undefined ? orphaned(host, name) : undefined;
      if (stored === undefined) throw toAdminError(error);
      return { reference, stored };
    }
  }
}

/** Returns what is to be said of it in the end. */
type Work = (channel: Tell, signal: AbortSignal) => Promise<JobSummary>;

/** A reader that lags behind holds the work up rather than fill the memory. */
function atReadersPace(run: Job['run'], channel: Tell): Job['run'] {
  return (given) =>
    run({
      checkpoint: given.checkpoint,
      dryRun: given.dryRun,
      signal: given.signal,
      step: async (checkpoint) => {
        await given.step(checkpoint);
        await channel.ready(given.signal);
      },
      mayDelete: () => given.mayDelete(),
      progress: (progress) => given.progress(progress),
      problem: (problem) => given.problem(problem),
      removed: (removal) => given.removed(removal),
    });
}

function parse(image: string): ImageReference {
  const reference = parseReference(image);
  if (reference === undefined)
    throw new AdminError('invalid', `not an image: ${JSON.stringify(image.slice(0, 255))}`);
  return reference;
}

function orphaned(host: string, name: Repository): Repository | undefined {
  return parseRepository(`${host.replaceAll(':', '__')}/${name}`);
}
