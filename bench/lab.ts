import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { temporaryFolder } from '../test/parts/folder.js';
import {
  contentOf,
  type Content,
  type Image,
  imageOf,
  type Layer,
  randomLayer,
} from '../test/parts/image.js';
import { pushBlob, pushImage } from '../test/parts/push.js';
import { randomBytes } from '../test/parts/random-bytes.js';
import { TokenServer } from '../test/parts/token-server.js';
import { download } from './download.js';
import type { Plan } from './plan.js';
import type { Side } from './scenario.js';
import { type Program, type Server, type ServerOptions, startServer } from './server.js';

export const repository = 'bench/app';
const storedMs = 60_000;
const account = { username: 'mirror', password: 'benchmark' };

/** Who has its turns: Cistern beside the registry that it replaces, or two builds of it. */
export type Contestants = Readonly<Record<Side, Program>>;

const cisternBesideRegistry: Contestants = { peer: 'docker-registry', cistern: 'cistern' };

/** What only Cistern knows under `proxy`. */
type MirrorSettings = Pick<NonNullable<ServerOptions['proxy']>, 'ranges'>;
export type Pair = Readonly<Record<Side, Server>> & AsyncDisposable;

/** Starts what scenarios need, on loopback and in one temporary folder; all of it is gone once this is disposed. */
export class Lab implements AsyncDisposable {
  #folders = 0;

  private constructor(
    readonly plan: Plan,
    readonly signal: AbortSignal,
    readonly upstream: Server,
    private readonly contestants: Contestants,
    private readonly tokens: TokenServer,
    private readonly auth: unknown,
    private readonly folder: string,
    private readonly owned: AsyncDisposableStack,
  ) {}

  /**
   * The upstream asks for tokens, as public registries do: registry as a proxy asks one without any authentication
   * for its challenge again at every request, which would be no fair picture of it.
   */
  static async open(
    plan: Plan,
    signal: AbortSignal,
    contestants: Contestants = cisternBesideRegistry,
  ): Promise<Lab> {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    const users = { [account.username]: { password: account.password, repositories: [repository] } };
    const tokens = cleanup.use(await TokenServer.start({ users, expiresInSeconds: 3600 }));
    const auth = { token: await tokens.registryAuth(folder.path) };
    // It logs no requests: its work is not what is measured.
    const settings = { folder: join(folder.path, 'upstream'), requestsLogged: false, auth };
    const upstream = cleanup.use(await startServer('docker-registry', settings, signal));
    return new Lab(plan, signal, upstream, contestants, tokens, auth, folder.path, cleanup.move());
  }

  /** Both, with nothing cached; Cistern with further settings. */
  async startPair(remoteurl = this.upstream.url, more: MirrorSettings = {}): Promise<Pair> {
    await using cleanup = new AsyncDisposableStack();
    const peer = cleanup.use(await this.startMirror('peer', remoteurl, more));
    const cistern = cleanup.use(await this.startMirror('cistern', remoteurl, more));
    const owned = cleanup.move();
    return { peer, cistern, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  startMirror(side: Side, remoteurl: string, more: MirrorSettings = {}): Promise<Server> {
    const program = this.contestants[side];
    const settings = {
      folder: this.#newFolder(),
      proxy: { remoteurl, ...account, ...(program === 'docker-registry' ? {} : more) },
      requestsLogged: true,
    };
    return startServer(program, settings, this.signal);
  }

  /** A second upstream with the same content, which keeps an access log. */
  startLoggingUpstream(): Promise<Server> {
    const settings = {
      folder: this.#newFolder(),
      root: this.upstream.root,
      requestsLogged: true,
      auth: this.auth,
    };
    return startServer('docker-registry', settings, this.signal);
  }

  #newFolder(): string {
    this.#folders += 1;
    return join(this.folder, `${this.#folders}`);
  }

  /** Of whoever asks the upstream itself. */
  authorization(): string {
    return this.tokens.issue(repository);
  }

  /** `user:password` of whoever may ask the upstream for tokens. */
  get credentials(): string {
    return `${account.username}:${account.password}`;
  }

  /** An image of two small layers in the upstream, under the tag. */
  async pushImage(tag: string): Promise<Image> {
    return this.#push(tag, [randomLayer(10_000, `${tag}-1`), randomLayer(20_000, `${tag}-2`)]);
  }

  /** An image whose one layer has the plan's `largeBlob`; returns the layer. */
  async pushLargeImage(tag: string): Promise<Content> {
    const layer = randomLayer(this.plan.largeBlob, tag);
    await this.#push(tag, [layer]);
    return layer;
  }

  async #push(tag: string, layers: readonly Layer[]): Promise<Image> {
    const image = imageOf({ layers });
    await pushImage({ url: this.upstream.url, repository, authorization: this.authorization() }, tag, image);
    return image;
  }

  /** A blob in the upstream that no mirror has seen. */
  async pushBlob(size: number, seed: string): Promise<Content> {
    const blob = contentOf('application/octet-stream', randomBytes(size, seed));
    await pushBlob({ url: this.upstream.url, repository, authorization: this.authorization() }, blob);
    return blob;
  }

  /** Pulls a blob through a mirror and waits until it is stored there. */
  async pullBlob(mirror: Server, blob: Content): Promise<void> {
    await download(blobUrl(mirror, blob), blob.size, this.signal);
    await this.untilStored(mirror, blob);
  }

  /** Both servers have the same layout; registry stores on, for a while, after its client has everything. */
  async untilStored({ root }: Server, { digest, size }: Content): Promise<void> {
    const hex = digest.slice('sha256:'.length);
    const data = join(root, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    const link = join(root, 'docker/registry/v2/repositories', repository, '_layers/sha256', hex, 'link');
    const limit = AbortSignal.timeout(storedMs);
    while ((await sizeOf(data)) !== size || (await sizeOf(link)) === undefined) {
      this.signal.throwIfAborted();
      if (limit.aborted) throw new Error(`${digest} was not stored in ${storedMs / 1000} s`);
      await delay(10);
    }
  }

  /** Waits until the disk has everything, so that no turn pays for what another one wrote. */
  async settleDisk(): Promise<void> {
    await promisify(execFile)('sync', { signal: this.signal });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.owned.disposeAsync();
  }
}

export function blobUrl({ url }: Pick<Server, 'url'>, { digest }: Content): string {
  return `${url}/v2/${repository}/blobs/${digest}`;
}

export function manifestUrl({ url }: Pick<Server, 'url'>, reference: string): string {
  return `${url}/v2/${repository}/manifests/${reference}`;
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}
