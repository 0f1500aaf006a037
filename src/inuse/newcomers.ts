import type { ImageWarmer } from '../prewarm/image-warmer.js';
import { isImageFault } from '../prewarm/prewarm-job.js';
import { parseDigest } from '../oci/digest.js';
import { pause } from '../async/wait.js';
import type { Logger } from '../telemetry/log.js';
import type { UpstreamDirectory } from '../upstream/directory.js';
import { parseImage } from '../usage/in-use.js';
import type { ImageSource } from './image-source.js';

const lookMs = 1_000;
/** What nodes there are is asked again after this. */
const platformsMs = 10 * 60_000;
/** More images than come at a time, unless a whole cluster is new. */
const mostWaiting = 1_000;

export interface NewcomersParts {
  readonly warmer: Pick<ImageWarmer, 'warm'>;
  readonly directory: Pick<UpstreamDirectory, 'placeOf'>;
  readonly log: Logger;
}

/** Fetches images when they begin to run somewhere, one after the other, within the upstreams' pull limits. */
export class Newcomers {
  readonly #waiting = new Set<string>();
  #platforms: { readonly list: readonly string[]; readonly sinceMs: number } | undefined;

  constructor(private readonly parts: NewcomersParts) {}

  /** In the words of the store (imageText). */
  add(images: readonly string[]): void {
    const taken = images.slice(0, mostWaiting - this.#waiting.size);
    for (const image of taken) this.#waiting.add(image);
    const left = images.length - taken.length;
    if (left > 0) this.parts.log.warn({ images: left }, 'too many new images, not all are fetched ahead');
  }

  /** Resolves when the signal is aborted; who looks then sees which of them are new. */
  async run(source: Pick<ImageSource, 'platforms'>, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const [image] = this.#waiting;
      if (image === undefined) await pause(lookMs, signal);
      else {
        await this.#fetch(image, await this.#platformsOf(source, signal), signal);
        this.#waiting.delete(image);
      }
    }
    this.#waiting.clear();
  }

  /** For each platform by itself: an image need not have all of them. */
  async #fetch(text: string, platforms: readonly string[], signal: AbortSignal): Promise<void> {
    const { warmer, log } = this.parts;
    const image = this.#nameOf(text);
    for (const wanted of platforms.length === 0 ? [[]] : platforms.map((platform) => [platform])) {
      if (signal.aborted) return;
      try {
        const warmed = await warmer.warm(
          { image, platforms: wanted },
          { signal, progress: () => undefined, step: () => Promise.resolve() },
        );
        log.info({ ...warmed, image, platforms: wanted }, 'image fetched ahead, it runs somewhere');
      } catch (err) {
        if (signal.aborted) return;
        if (!isImageFault(err)) throw err;
        log.warn({ image, platforms: wanted, err }, 'image not fetched ahead');
      }
    }
  }

  async #platformsOf(
    source: Pick<ImageSource, 'platforms'>,
    signal: AbortSignal,
  ): Promise<readonly string[]> {
    const now = performance.now();
    if (this.#platforms === undefined || now - this.#platforms.sinceMs > platformsMs) {
      this.#platforms = { list: await source.platforms(signal), sinceMs: now };
    }
    return this.#platforms.list;
  }

  /** As in `docker pull`. */
  #nameOf(text: string): string {
    const image = parseImage(text);
    if (image === undefined) return text;
    const { host, name } = this.parts.directory.placeOf(image.repository);
    return `${host}/${name}${parseDigest(image.reference) === undefined ? ':' : '@'}${image.reference}`;
  }
}
