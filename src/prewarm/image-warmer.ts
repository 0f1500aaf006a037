import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../oci/digest.js';
import { isIndex, references, type Reference } from '../oci/manifest.js';
import { parseReference, type ImageReference } from '../oci/reference.js';
import type { Blobs } from '../proxy/blobs.js';
import { fetchBlob } from '../proxy/fetch-blob.js';
import type { Manifests } from '../proxy/manifests.js';
import type { Tags } from '../proxy/tags.js';
import type { Transfers } from '../proxy/transfers.js';
import type { JobRun } from '../scheduler/job.js';
import type { Logger } from '../telemetry/log.js';
import type { Route, UpstreamDirectory } from '../upstream/directory.js';
import { isTrouble, UpstreamError, type Upstream } from '../upstream/upstream.js';
import type { UsageRecorder } from '../usage/usage.js';
import { fits, parsePlatform, platformName, type WantedPlatform } from './platform.js';

/** As many as docker fetches at once. */
const blobsAtOnce = 3;
const tries = 3;
const firstPauseMs = 2_000;
const longestPauseMs = 60_000;
/** How often an upstream is asked whether it allows more pulls again: HEAD costs none. */
const askBudgetMs = 60_000;
/** Longer than the longest window that is known: Docker Hub's six hours. */
const longestBudgetMs = 7 * 60 * 60_000;
/** An index in an index is lawful; a deeper nest is nobody's image. */
const deepest = 4;
/** Nor has anybody an image of more than these. */
const mostManifests = 2_000;
const mostBlobs = 20_000;

/** An image to be fetched, as in `docker pull`. */
export interface WantedImage {
  readonly image: string;
  /** Such as `linux/amd64`; none: all that it has. */
  readonly platforms: readonly string[];
}

/** What was done for an image. What was stored already is among `manifests` and `blobs`, but not in `bytes`. */
export interface Warmed {
  readonly digest: Digest;
  readonly manifests: number;
  readonly blobs: number;
  readonly bytes: number;
}

export type PrewarmCode =
  | 'reference' // the text names no image or no platform
  | 'offline' // its upstream is not configured to be asked
  | 'unknown' // the upstream has no such image, or not for a platform
  | 'excessive' // more manifests or blobs than an image has
  | 'stale' // the upstream cannot be asked, what is here may be old
  | 'budget'; // its pull limit stayed too low

export class PrewarmError extends Error {
  override readonly name = 'PrewarmError';
  constructor(
    readonly code: PrewarmCode,
    message: string,
  ) {
    super(message);
  }
}

export interface ImageWarmerParts {
  readonly directory: UpstreamDirectory;
  readonly tags: Tags;
  readonly manifests: Manifests;
  readonly blobs: Blobs;
  readonly transfers: Transfers;
  readonly usage: UsageRecorder;
  readonly log: Logger;
  /** For {@link askBudgetMs}. */
  readonly askBudgetMs?: number;
}

/** Somebody who watches: a job's run. */
export type WarmWatch = Pick<JobRun, 'signal' | 'progress'> & {
  /** Between two steps: throws when this process may not go on. */
  readonly step: () => Promise<void>;
};

interface Wanted {
  readonly text: string;
  readonly reference: ImageReference;
  readonly platforms: readonly WantedPlatform[];
  readonly route: Route;
  readonly upstream: Upstream;
}

/** Fetches whole images, the very way that a client's pull does. */
export class ImageWarmer {
  constructor(private readonly parts: ImageWarmerParts) {}

  /**
   * Settles when all of it is stored. Waits while little is left of the upstream's pull limit. Throws PrewarmError,
   * RouteError, UpstreamError, StorageError, DigestMismatch, and what the signal was aborted with.
   */
  async warm(image: WantedImage, watch: WarmWatch): Promise<Warmed> {
    const wanted = this.#parse(image);
    for (let tried = 1; ; tried += 1) {
      await this.#awaitBudget(wanted, watch);
      try {
        return await this.#fetch(wanted, watch);
      } catch (err) {
        if (!isTrouble(err) || tried === tries) throw err;
        this.parts.log.warn({ image: wanted.text, err }, 'prewarming is tried again');
        const pause = Math.max(err.retryAfterMs ?? 0, firstPauseMs * 2 ** (tried - 1));
        await this.#pause(Math.min(pause, longestPauseMs), watch);
      }
    }
  }

  #parse({ image, platforms }: WantedImage): Wanted {
    const reference = parseReference(image);
    if (reference === undefined)
      throw new PrewarmError('reference', `not an image: ${JSON.stringify(image)}`);
    const route = this.parts.directory.route({ ns: reference.host, name: reference.name });
    const { upstream } = route;
    if (upstream === undefined) throw new PrewarmError('offline', `no upstream is configured for ${image}`);
    return { text: image, reference, platforms: platforms.map(platformOf), route, upstream };
  }

  /** Work that can wait does so while little is left for clients' pulls. */
  async #awaitBudget({ upstream, route, reference }: Wanted, watch: WarmWatch): Promise<void> {
    const until = performance.now() + longestBudgetMs;
    for (;;) {
      const { budget } = upstream;
      if (budget === undefined || budget.freshnessFactor === 1) return;
      const left = `${budget.remaining} of ${budget.limit} pulls left`;
      if (performance.now() > until) throw new PrewarmError('budget', `${upstream.host}: ${left}`);
      watch.progress({ doing: `waiting for ${upstream.host}: ${left}`, done: 0, total: undefined });
      await this.#pause(this.parts.askBudgetMs ?? askBudgetMs, watch);
      try {
        const asked = reference.digest ?? reference.tag ?? missingReference();
        await upstream.headManifest(route.name, asked, watch.signal);
      } catch (err) {
        if (!(err instanceof UpstreamError)) throw err;
        this.parts.log.debug({ err }, 'an upstream was asked for its pull limit');
      }
    }
  }

  async #pause(ms: number, watch: WarmWatch): Promise<void> {
    await watch.step();
    try {
      await sleep(ms, undefined, { signal: watch.signal });
    } catch (error) {
      watch.signal.throwIfAborted(); // its own reason, not the timer's
      throw error;
    }
  }

  async #fetch(wanted: Wanted, watch: WarmWatch): Promise<Warmed> {
    const { route, text } = wanted;
    const digest = await this.#resolve(wanted, watch.signal);
    this.parts.usage.touch(route.stored, digest);
    const { manifests, blobs } = await this.#manifestsOf(wanted, digest, watch);
    let done = 0;
    let bytes = 0;
    const waiting = [...blobs];
    let step = Promise.resolve(); // one after the other
    const work = async (): Promise<void> => {
      for (let blob = waiting.shift(); blob !== undefined; blob = waiting.shift()) {
        watch.progress({ doing: `fetching ${text}`, done, total: blobs.size });
        const fetched = await fetchBlob(this.parts, route, blob, watch.signal);
        if (fetched === undefined) throw new PrewarmError('unknown', `${route.host} has no ${blob}`);
        bytes += fetched;
        done += 1;
        step = step.then(() => watch.step());
        await step;
      }
    };
    const results = await Promise.allSettled(Array.from({ length: blobsAtOnce }, work));
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    watch.progress({ doing: `fetching ${text}`, done, total: blobs.size });
    return { digest, manifests, blobs: done, bytes };
  }

  async #resolve({ route, reference, upstream, text }: Wanted, signal: AbortSignal): Promise<Digest> {
    if (reference.digest !== undefined) return reference.digest;
    const tag = reference.tag ?? missingReference();
    const resolved = await this.parts.tags.resolve(route, tag, signal);
    if (resolved === undefined) throw new PrewarmError('unknown', `${upstream.host} has no ${text}`);
    if (resolved.outcome === 'stale') throw new PrewarmError('stale', resolved.warning ?? upstream.host);
    return resolved.descriptor.digest;
  }

  /** Fetches the manifests of the wanted platforms; returns how many they are, and all blobs that they name. */
  async #manifestsOf(
    wanted: Wanted,
    root: Digest,
    watch: WarmWatch,
  ): Promise<{ manifests: number; blobs: Set<Digest> }> {
    const seen = new Set<Digest>();
    const blobs = new Set<Digest>();
    let layer: readonly Digest[] = [root];
    for (let depth = 0; layer.length > 0 && depth < deepest; depth += 1) {
      const below: Digest[] = [];
      for (const digest of layer.filter((each) => !seen.has(each))) {
        seen.add(digest);
        watch.progress({ doing: `reading ${wanted.text}`, done: seen.size, total: undefined });
        const found = await this.parts.manifests.get(wanted.route, digest, watch.signal);
        if (found === undefined)
          throw new PrewarmError('unknown', `${wanted.upstream.host} has no ${digest}`);
        const named = references(found.manifest.bytes);
        for (const { kind, digest: blob } of named) if (kind === 'blob') blobs.add(blob);
        below.push(...chosen(wanted, named, found.manifest.mediaType));
        if (seen.size + below.length > mostManifests || blobs.size > mostBlobs) {
          const most = `more than ${mostManifests} manifests or ${mostBlobs} blobs`;
          throw new PrewarmError('excessive', `${wanted.text} names ${most}`);
        }
        await watch.step();
      }
      layer = below;
    }
    return { manifests: seen.size, blobs };
  }
}

/** The manifests of an index that are wanted. What an image manifest names besides blobs is its subject. */
function chosen({ platforms, text }: Wanted, named: readonly Reference[], mediaType: string): Digest[] {
  if (!isIndex(mediaType)) return [];
  const manifests = named.filter(({ kind }) => kind === 'manifest');
  if (platforms.length === 0) return manifests.map(({ digest }) => digest);
  const fitting = platforms.map((wanted) => {
    const found = manifests.filter(({ platform }) => platform !== undefined && fits(platform, wanted));
    if (found.length > 0) return found;
    const known = manifests.map(({ platform }) => platform && platformName(platform));
    const there = [...new Set(known)].filter((name) => name !== undefined && name !== 'unknown/unknown');
    throw new PrewarmError(
      'unknown',
      `${text} is not there for ${platformName(wanted)}, but for ${there.join(', ')}`,
    );
  });
  return [...new Set(fitting.flat().map(({ digest }) => digest))];
}

function platformOf(text: string): WantedPlatform {
  const platform = parsePlatform(text);
  if (platform === undefined) throw new PrewarmError('reference', `not a platform: ${JSON.stringify(text)}`);
  return platform;
}

/** Its parser gives every reference a tag or a digest. */
function missingReference(): never {
  throw new TypeError('a reference without tag and digest');
}
