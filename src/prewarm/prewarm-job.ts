import type { Job, JobRun, JobSummary } from '../scheduler/job.js';
import { DigestMismatch, StorageError } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import { RouteError } from '../upstream/directory.js';
import { UpstreamError } from '../upstream/upstream.js';
import { PrewarmError, type ImageWarmer, type WantedImage } from './image-warmer.js';

export interface PrewarmParts {
  readonly warmer: ImageWarmer;
  readonly images: readonly WantedImage[];
  readonly log: Logger;
}

/** Fetches a list of images before anybody asks for them. */
export class PrewarmJob implements Job {
  readonly name = 'prewarm';

  constructor(private readonly parts: PrewarmParts) {}

  async run(run: JobRun): Promise<JobSummary> {
    const summary = { images: 0, failed: 0, manifests: 0, blobs: 0, bytes: 0 };
    const { images } = this.parts;
    const first = Number(run.checkpoint ?? 0);
    for (const [index, image] of images.entries()) {
      if (index < first) continue;
      run.progress({ doing: `fetching ${image.image}`, done: index, total: images.length });
      if (!run.dryRun) await this.#warm(run, image, String(index), summary);
      await run.step(String(index + 1));
    }
    return summary;
  }

  async #warm(
    run: JobRun,
    image: WantedImage,
    checkpoint: string,
    summary: Record<'images' | 'failed' | 'manifests' | 'blobs' | 'bytes', number>,
  ): Promise<void> {
    const { warmer, log } = this.parts;
    try {
      const warmed = await warmer.warm(image, {
        signal: run.signal,
        progress: (progress) => run.progress(progress),
        step: () => run.step(checkpoint),
      });
      summary.images += 1;
      summary.manifests += warmed.manifests;
      summary.blobs += warmed.blobs;
      summary.bytes += warmed.bytes;
      log.info({ ...warmed, image: image.image }, 'image fetched ahead');
    } catch (err) {
      run.signal.throwIfAborted();
      if (!isImageFault(err)) throw err;
      summary.failed += 1;
      log.warn({ image: image.image, err }, 'image not fetched ahead');
      run.problem({ subject: image.image, message: err.message });
    }
  }
}

/** What one image may come to grief by: the others may still be had. */
export function isImageFault(err: unknown): err is Error {
  return [PrewarmError, RouteError, UpstreamError, StorageError, DigestMismatch].some(
    (expected) => err instanceof expected,
  );
}
