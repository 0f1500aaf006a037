import { pause } from '../async/wait.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { KubernetesError, type KubernetesApi } from './kubernetes.js';

/** Objects of a page; whole ones pass through memory, and Pods are large. */
const pageSize = 250;
const firstPauseMs = 1_000;
const longestPauseMs = 30_000;

/** Which objects, and what is kept of them. */
export interface ObjectWatchParts<T> {
  readonly api: KubernetesApi;
  /** Of the list: `/api/v1/pods`. */
  readonly path: string;
  readonly fieldSelector: string;
  /** What metrics and the log call it. */
  readonly resource: 'pods' | 'secrets';
  /** `undefined`: nothing is kept of it. */
  readonly read: (object: KubernetesObject) => T | undefined;
  /** All of them, by namespace and name. */
  readonly listed: (objects: Map<string, T>) => void;
  /** One of them; `undefined`: it is gone. */
  readonly changed: (name: string, value: T | undefined) => void;
  /** The server has said something: what is known is as it is now. */
  readonly heard?: () => void;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** As JSON, with no more known of it than every object has. */
export interface KubernetesObject {
  readonly metadata?: {
    readonly namespace?: string;
    readonly name?: string;
    readonly resourceVersion?: string;
    readonly continue?: string;
  };
  readonly [field: string]: unknown;
}

/**
 * Keeps up with the objects of one kind (Kubernetes, "API Concepts", efficient detection of changes):
 *
 * 1. They are listed, page by page.
 * 2. They are watched from the version of that list on. Each event, and each bookmark, is a version to go on from.
 * 3. A watch that ends or breaks is begun again from there; after a failure with a pause that grows.
 * 4. A version that is too old (410, as an answer or an event) leads back to 1. Meanwhile what is known stays.
 */
export class ObjectWatch<T> {
  /** To go on from; `undefined`: they are to be listed. */
  #version: string | undefined;
  /** In a row. */
  #failures = 0;
  #down = false;

  constructor(private readonly parts: ObjectWatchParts<T>) {}

  /** Resolves when the signal is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { metrics, resource } = this.parts;
    while (!signal.aborted) {
      const begun = performance.now();
      try {
        this.#version ??= await this.#list(signal);
        if (await this.#follow(this.#version, signal)) this.#failures = 0;
        else this.#failures += 1; // nothing was said: not at once again
        metrics.kubernetesWatches.inc({ resource, result: 'ended' });
      } catch (error) {
        if (signal.aborted) return;
        this.#fail(error instanceof KubernetesError ? error : unexpected(error));
      }
      // A server may also send one event and end the watch, again and again.
      const rest = firstPauseMs - (performance.now() - begun);
      if (this.#failures > 0) await this.#pause(signal);
      else if (rest > 0) await pause(rest, signal);
    }
  }

  async #list(signal: AbortSignal): Promise<string> {
    const { api, path, fieldSelector, read, listed } = this.parts;
    const found = new Map<string, T>();
    for (let from = ''; ;) {
      const page = asObject(
        await api.get(
          path,
          { fieldSelector, limit: String(pageSize), ...(from === '' ? {} : { continue: from }) },
          signal,
        ),
      );
      const items: unknown = page['items'] ?? [];
      if (!Array.isArray(items)) throw new KubernetesError('invalid', `${path}: a list without items`);
      for (const each of items as unknown[]) {
        const item = asObject(each);
        const name = nameOf(item);
        const value = read(item);
        if (value !== undefined) found.set(name, value);
      }
      const next: unknown = page.metadata?.continue ?? '';
      if (typeof next !== 'string') throw new KubernetesError('invalid', `${path}: a token that is not text`);
      if (next !== '' && next === from) {
        throw new KubernetesError('invalid', `${path}: the server repeats the token of a page`);
      }
      from = next;
      if (from !== '') continue;
      const version = versionOf(page);
      if (version === undefined) throw new KubernetesError('invalid', `${path}: a list without a version`);
      listed(found);
      this.#hear();
      return version;
    }
  }

  /** `false`: the server ended it without a word. */
  async #follow(from: string, signal: AbortSignal): Promise<boolean> {
    const { api, path, fieldSelector, read, changed } = this.parts;
    let heard = false;
    for await (const told of api.watch(path, { fieldSelector, resourceVersion: from }, signal)) {
      const { type, object: something } = asObject(told);
      const object = asObject(something);
      if (type === 'ERROR') throw errorOf(object, path);
      this.#version = versionOf(object) ?? this.#version;
      heard = true;
      this.#hear();
      if (type === 'BOOKMARK') continue;
      changed(nameOf(object), type === 'DELETED' ? undefined : read(object));
    }
    return heard;
  }

  #hear(): void {
    const { log, metrics, resource, path, heard } = this.parts;
    this.#failures = 0;
    if (this.#down) log.info({ resource, path }, 'kubernetes answers again');
    this.#down = false;
    metrics.kubernetesUsable.set({ resource }, 1);
    heard?.();
  }

  #fail(err: KubernetesError): void {
    const { log, metrics, resource, path } = this.parts;
    const expired = err.code === 'gone';
    metrics.kubernetesWatches.inc({ resource, result: expired ? 'expired' : 'failed' });
    this.#failures += 1;
    // A connection may be cut, and what is too old is listed again: that is no outage yet.
    const outage = this.#failures > 1 || (this.#version === undefined && !expired);
    // A watch from the same version would get the same malformed event again.
    if (expired || err.code === 'invalid') this.#version = undefined;
    if (!outage || this.#down) return;
    this.#down = true;
    metrics.kubernetesUsable.set({ resource }, 0);
    log.warn({ resource, path, err }, 'kubernetes cannot be asked, what is known stays');
  }

  async #pause(signal: AbortSignal): Promise<void> {
    const ms = Math.min(firstPauseMs * 2 ** (this.#failures - 1), longestPauseMs);
    await pause(ms / 2 + (Math.random() * ms) / 2, signal);
  }
}

function asObject(value: unknown): KubernetesObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as KubernetesObject;
  throw new KubernetesError('invalid', 'an answer without an object');
}

function nameOf({ metadata }: KubernetesObject): string {
  const { namespace, name } = metadata ?? {};
  if (typeof namespace === 'string' && typeof name === 'string') return `${namespace}/${name}`;
  throw new KubernetesError('invalid', 'an object without a namespace and a name');
}

/** The next answer may be readable, so the watch must not end with this error. */
function unexpected(cause: unknown): KubernetesError {
  const name = cause instanceof Error ? cause.name : typeof cause;
  return new KubernetesError('invalid', `an answer that cannot be read (${name})`);
}

function versionOf({ metadata }: KubernetesObject): string | undefined {
  const version = metadata?.resourceVersion;
  return typeof version === 'string' && version !== '' ? version : undefined;
}

/** An event of the type ERROR carries a Status. */
function errorOf(status: KubernetesObject, path: string): KubernetesError {
  const code = typeof status['code'] === 'number' ? status['code'] : undefined;
  return new KubernetesError(code === 410 ? 'gone' : 'refused', `${path}: the watch failed (${code})`, code);
}
