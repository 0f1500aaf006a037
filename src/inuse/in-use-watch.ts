import type { JobLeases } from '../scheduler/leases.js';
import { pause } from '../async/wait.js';
import { StorageError } from '../storage/storage.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { InUseRecords } from '../usage/in-use.js';
import type { ImageSource } from './image-source.js';
import type { Newcomers } from './newcomers.js';

/** After a source could not be asked, or the storage was in trouble. */
const againMs = 10_000;
/** What changes is written down this often at most. */
const writeMs = 2_000;
/** And this often while nothing does, so that others see that somebody looks. */
const beatMs = 10 * 60_000;
/** Where a configured Redis is away, all replicas look; so long after, each asks again whether another one does. */
const aloneMs = 5 * 60_000;

export interface InUseWatchParts {
  readonly source: ImageSource;
  readonly records: Pick<InUseRecords, 'read' | 'write'>;
  readonly leases: Pick<JobLeases, 'turn'>;
  /** There is a Redis, which knows who looks. */
  readonly shared: boolean;
  /** Images that nobody ran before are given to it; `undefined`: to nobody. */
  readonly newcomers: Newcomers | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** Keeps the record of what a source says runs: one replica at a time, unless none can know of the others. */
export class InUseWatch {
  /** Redis did not answer when this was to begin. */
  #alone = false;

  constructor(private readonly parts: InUseWatchParts) {}

  /** Resolves when the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { source, log } = this.parts;
    let failing = false;
    while (!signal.aborted) {
      try {
        await this.#look(signal);
        failing = false;
      } catch (err) {
        if (signal.aborted) return;
        if (!failing) log.error({ err, source: source.kind }, 'what runs cannot be looked at');
        failing = true;
      }
      await pause(againMs, signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { source, leases, shared, log } = this.parts;
    const id = await source.identify(signal);
    if (id === undefined) return;
    await using lease = await leases.turn(`inuse:${source.kind}:${id}`, signal);
    const alone = shared && lease.scope === 'process';
    const atFirst = alone && !this.#alone;
    this.#alone = alone;
    if (atFirst) return; // at the start it may answer any moment
    const over = new AbortController();
    const timer = alone ? setTimeout(() => over.abort(), aloneMs) : undefined;
    log.info({ source: source.kind, id }, 'looking at what runs');
    try {
      await this.#lookAs(id, AbortSignal.any([signal, lease.lost, over.signal]));
    } finally {
      clearTimeout(timer);
    }
  }

  async #lookAs(id: string, signal: AbortSignal): Promise<void> {
    const { source, records, newcomers, log, metrics } = this.parts;
    const { kind } = source;
    const ended = new AbortController();
    const session = AbortSignal.any([signal, ended.signal]);
    const seen = new Seen(await records.read(kind, id));
    const write = async (): Promise<void> => {
      const due = seen.due();
      if (due === undefined) return;
      await records.write(kind, id, Date.now(), due.images);
      metrics.inuseImages.set({ source: kind }, due.images.size);
      newcomers?.add(seen.written(due));
    };
    const observer = {
      seen: (images: ReadonlyMap<string, unknown>, whole: boolean): void => seen.take(images, whole),
      heard: (): void => {
        seen.hear();
        metrics.inuseSeen.set({ source: kind }, Date.now() / 1000);
      },
    };
    const work = [
      source.observe(id, observer, session).finally(() => ended.abort()),
      repeatedly(write, kind, log, session),
      newcomers?.run(source, session),
    ];
    try {
      await Promise.all(work);
    } finally {
      ended.abort();
      await Promise.allSettled(work);
      metrics.inuseImages.remove({ source: kind });
      metrics.inuseSeen.remove({ source: kind });
    }
  }
}

interface Due {
  readonly images: ReadonlySet<string>;
  readonly version: number;
}

/** What was seen, and what of that is written. */
class Seen {
  #images: ReadonlyMap<string, unknown> = new Map();
  #whole = false;
  /** Grows with each change. */
  #version = 0;
  #written: Due | undefined;
  #writtenMs = -Infinity;
  #heard = false;

  /** `before`: what is written of an earlier look; `undefined`: nobody has looked before. */
  constructor(private readonly before: ReadonlySet<string> | undefined) {}

  take(images: ReadonlyMap<string, unknown>, whole: boolean): void {
    this.#images = images;
    this.#whole = whole;
    this.#version += 1;
  }

  hear(): void {
    this.#heard = true;
  }

  /** What is to be written; `undefined`: nothing now. Half of what runs is no reason to forget the other half. */
  due(): Due | undefined {
    if (!this.#whole && (this.before === undefined || this.#version === 0)) return undefined;
    const changed = this.#version > (this.#written?.version ?? 0);
    if (!changed && !(this.#heard && performance.now() - this.#writtenMs > beatMs)) return undefined;
    const images = new Set([...this.#images.keys(), ...(this.#whole ? [] : (this.before ?? []))]);
    return { images, version: this.#version };
  }

  /** Returns those that nobody ran before. What runs when somebody looks for the first time is not new. */
  written(due: Due): string[] {
    const before = this.#written?.images ?? this.before;
    this.#written = due;
    this.#writtenMs = performance.now();
    this.#heard = false;
    return before === undefined ? [] : [...due.images].filter((image) => !before.has(image));
  }
}

/** Says once that the storage does not take it, and goes on trying. */
async function repeatedly(
  work: () => Promise<void>,
  source: string,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  let failing = false;
  while (!signal.aborted) {
    await pause(writeMs, signal);
    try {
      await work();
      if (failing) log.info({ source }, 'what runs is written down again');
      failing = false;
    } catch (err) {
      if (!(err instanceof StorageError)) throw err;
      if (!failing) log.warn({ source, err }, 'what runs cannot be written down');
      failing = true;
    }
  }
}
