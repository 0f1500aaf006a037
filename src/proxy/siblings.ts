import { LRUCache } from 'lru-cache';
import { livingFor } from '../cluster/local/caches.js';
import type { Digest } from '../oci/digest.js';
import { isIndex, references } from '../oci/manifest.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Route } from '../upstream/directory.js';
import { UpstreamError } from '../upstream/upstream.js';
import type { Blobs } from './blobs.js';
import { fetchBlob } from './fetch-blob.js';
import type { Manifest } from './proxy.js';
import type { Transfers } from './transfers.js';

/** At a time, of all images; less where few transfers are allowed, which clients need more. */
const mostAtOnce = 4;
const shareOfTransfers = 1 / 4;
/** Further ones are left to the clients that ask for them. */
const mostWaiting = 500;
/** A manifest that many clients get is looked at once in this time. */
const againMs = 60_000;

export interface SiblingsOptions {
  readonly blobs: Pick<Blobs, 'open'>;
  readonly transfers: Pick<Transfers, 'get'>;
  /** Upstreams where this is wanted. */
  readonly hosts: ReadonlySet<string>;
  /** `proxy.maxtransfers`. */
  readonly maxTransfers: number;
  readonly log: Pick<Logger, 'debug'>;
  readonly metrics: Pick<Metrics, 'siblings'>;
}

interface Wanted {
  readonly route: Route;
  readonly digest: Digest;
}

/**
 * Fetches the blobs of an image as soon as a client has its manifest: by the time that the client asks for them they
 * are on their way. Work that can wait: a few at a time, and none while little is left of the upstream's pull limit.
 */
export class Siblings {
  readonly #seen = new LRUCache<string, true>({ max: 1_000, ...livingFor(againMs) });
  readonly #waiting: Wanted[] = [];
  readonly #stopped = new AbortController();
  readonly #atOnce: number;
  #running = 0;

  constructor(private readonly options: SiblingsOptions) {
    this.#atOnce = Math.min(mostAtOnce, Math.floor(options.maxTransfers * shareOfTransfers));
  }

  /** A client got this manifest. Returns at once, and never throws. */
  follow(route: Route, { digest, mediaType, bytes }: Manifest): void {
    const { upstream, host, stored } = route;
    if (upstream === undefined || !this.options.hosts.has(host) || this.#stopped.signal.aborted) return;
    const key = `${stored}@${digest}`;
    if (this.#seen.has(key) || (upstream.budget?.freshnessFactor ?? 1) !== 1) return;
    this.#seen.set(key, true);
    if (isIndex(mediaType)) return; // the client takes one of its images, and which is not known
    for (const reference of references(bytes)) {
      if (reference.kind !== 'blob') continue;
      if (this.#waiting.length < mostWaiting) this.#waiting.push({ route, digest: reference.digest });
      else this.options.metrics.siblings.inc({ upstream: host, result: 'dropped' });
    }
    while (this.#running < this.#atOnce && this.#waiting.length > 0) void this.#work();
  }

  /** Begins nothing any more. What has begun belongs to the transfers. */
  stop(): void {
    this.#stopped.abort();
    this.#waiting.length = 0;
  }

  async #work(): Promise<void> {
    this.#running += 1;
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const result = await this.#fetch(next);
      this.options.metrics.siblings.inc({ upstream: next.route.host, result });
    }
    this.#running -= 1;
  }

  async #fetch({ route, digest }: Wanted): Promise<'fetched' | 'stored' | 'refused' | 'failed'> {
    try {
      const bytes = await fetchBlob(this.options, route, digest, this.#stopped.signal);
      if (bytes === undefined) return 'refused';
      return bytes === 0 ? 'stored' : 'fetched';
    } catch (err) {
      // Whoever asks for the blob is told of it.
      this.options.log.debug(
        { upstream: route.host, digest, err },
        'a blob of an image is not fetched ahead',
      );
      return err instanceof UpstreamError && err.kind === 'answer' ? 'refused' : 'failed';
    }
  }
}
