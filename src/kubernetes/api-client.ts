import { createHash } from 'node:crypto';
import http, { type IncomingMessage } from 'node:http';
import https, { type RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { SingleFlight } from '../async/single-flight.js';
import { within } from '../async/wait.js';
import { readAtMost, TooLong } from '../memory/read-at-most.js';
import { KubernetesError, type KubernetesApi, type KubernetesPlace, type Query } from './kubernetes.js';
import { linesOf } from './lines.js';

/** For an exec plugin of a kubeconfig, which may ask elsewhere. */
const accessMs = 30_000;
/** Without a byte for so long, an answer is given up. */
const idleMs = 30_000;
/** A watch is silent between two bookmarks, and ended by the server before this ({@link watchSeconds}). */
const watchIdleMs = 360_000;
/** How long the server is asked to keep a watch: not the same for everybody, so that not all come again at once. */
const watchSeconds = { least: 240, most: 300 };
/** A connection whose other side is gone is noticed by the system after some of these. */
const keepAliveMs = 30_000;
/** Of a page of a list; an object has 1.5 MiB at most (etcd's limit). */
const longestAnswer = 64 * 1024 * 1024;
const longestEvent = 8 * 1024 * 1024;

/** {@link KubernetesApi} by a kubeconfig, or as the Pod's service account. The library is loaded with the first use. */
export class ApiClient implements KubernetesApi {
  readonly #loading = new SingleFlight<KubeConfig>();
  #config: KubeConfig | undefined;

  constructor(private readonly kubeconfig: string | undefined) {}

  async place(): Promise<KubernetesPlace> {
    const config = await this.#load();
    const { server, options } = await this.#access(config);
    const hash = createHash('sha256').update(server.href);
    // Inside, all clusters have their API at the same address.
    if (typeof options.ca === 'string' || options.ca instanceof Uint8Array) hash.update(options.ca);
    const namespace = config.getContextObject(config.getCurrentContext())?.namespace?.trim();
    return { cluster: hash.digest('hex').slice(0, 16), namespace: namespace || 'default' };
  }

  async get(path: string, query: Query, signal: AbortSignal): Promise<unknown> {
    const answer = await this.#open(path, query, idleMs, signal);
    const bytes = await readAtMost(bodyOf(answer, signal), longestAnswer).catch((error: unknown) => {
      if (!(error instanceof TooLong)) throw error;
      throw new KubernetesError('invalid', `${path}: the answer is too long`);
    });
    return parse(bytes, path);
  }

  async *watch(path: string, query: Query, signal: AbortSignal): AsyncGenerator<unknown> {
    const { least, most } = watchSeconds;
    const timeoutSeconds = String(Math.round(least + Math.random() * (most - least)));
    const whole = { ...query, watch: 'true', allowWatchBookmarks: 'true', timeoutSeconds };
    const answer = await this.#open(path, whole, watchIdleMs, signal);
    for await (const line of linesOf(bodyOf(answer, signal), longestEvent)) yield parse(line, path);
  }

  async #open(path: string, query: Query, silenceMs: number, signal: AbortSignal): Promise<IncomingMessage> {
    let answer = await this.#request(path, query, silenceMs, signal);
    if (answer.statusCode === 401) {
      answer.destroy();
      // Tokens are replaced in their files, and are remembered for a minute by the library.
      this.#config = undefined;
      answer = await this.#request(path, query, silenceMs, signal);
    }
    const { statusCode: status = 0 } = answer;
    if (status === 200) return answer;
    answer.destroy();
    throw new KubernetesError(codes[status] ?? 'refused', `${path}: answered ${status}`, status);
  }

  async #request(
    path: string,
    query: Query,
    silenceMs: number,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    signal.throwIfAborted();
    const { server, options } = await this.#access(await this.#load());
    const url = new URL(server.href.replace(/\/$/, '') + path);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const { request } = url.protocol === 'http:' ? http : https;
    const sent = request(url, { ...options, method: 'GET', signal, timeout: silenceMs }, resolve);
    sent.on('error', (error: NodeJS.ErrnoException) => reject(lost(error, path, signal)));
    sent.on('timeout', () =>
      sent.destroy(new KubernetesError('unreachable', `${path}: silent for too long`)),
    );
    sent.on('socket', (socket) => socket.setKeepAlive(true, keepAliveMs));
    sent.end();
    return promise;
  }

  /** Where it is, and who we are there now: certificates and tokens are read from their files. */
  async #access(config: KubeConfig): Promise<{ readonly server: URL; readonly options: RequestOptions }> {
    const server = URL.parse(config.getCurrentCluster()?.server ?? '');
    if (server === null) throw new KubernetesError('config', 'no API server of Kubernetes is named');
    const options: RequestOptions = { headers: { accept: 'application/json', 'user-agent': 'cistern' } };
    try {
      await within(
        config.applyToHTTPSOptions(options),
        accessMs,
        () => new KubernetesError('config', 'no credentials in time'),
      );
    } catch (error) {
      throw unusable(error);
    }
    return { server, options };
  }

  async #load(): Promise<KubeConfig> {
    return (this.#config ??= await this.#loading.join('config', () => this.#read()));
  }

  async #read(): Promise<KubeConfig> {
    const { KubeConfig } = await import('@kubernetes/client-node');
    const config = new KubeConfig();
    try {
      if (this.kubeconfig === undefined) config.loadFromCluster();
      else config.loadFromFile(this.kubeconfig);
    } catch (error) {
      throw unusable(error);
    }
    return config;
  }
}

const codes: Readonly<Record<number, 'unauthorized' | 'forbidden' | 'gone'>> = {
  401: 'unauthorized',
  403: 'forbidden',
  410: 'gone',
};

async function* bodyOf(answer: IncomingMessage, signal: AbortSignal): AsyncGenerator<Buffer> {
  try {
    for await (const piece of answer) yield piece as Buffer;
  } catch (error) {
    throw lost(error as NodeJS.ErrnoException, 'an answer', signal);
  }
}

function lost(error: NodeJS.ErrnoException, path: string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (error instanceof KubernetesError) return error;
  return new KubernetesError('unreachable', `${path}: no connection (${error.code ?? error.name})`);
}

/** What the library says of a kubeconfig may quote it, so only the system's own codes are told. */
function unusable(error: unknown): KubernetesError {
  if (error instanceof KubernetesError) return error;
  const code = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : '';
  return new KubernetesError('config', `the access to Kubernetes cannot be read or used${code}`);
}

function parse(bytes: Buffer, path: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    throw new KubernetesError('invalid', `${path}: an answer that is not JSON`);
  }
}
