import { pause } from '../async/wait.js';
import type { Logger } from '../telemetry/log.js';
import { DockerError, type DockerApi } from './docker-api.js';
import { elementsOf, fieldsAt, type Fields } from './fields.js';
import type { ImageSource, Observer } from './image-source.js';

const tasks = `/tasks?filters=${encodeURIComponent(JSON.stringify({ 'desired-state': ['running', 'ready', 'accepted'] }))}`;
/** After so many failures in a row another replica may try. */
const patience = 4;
/** What kernels and indexes call the same architecture. */
const architectures: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64', armv7l: 'arm' };

export interface DockerImagesParts {
  readonly api: Pick<DockerApi, 'get'>;
  readonly intervalMs: number;
  /** What an image's name is in the store; `undefined`: nothing of it is. */
  readonly imageHere: (text: string) => string | undefined;
  readonly log: Logger;
}

interface Engine {
  /** Of the Swarm, where it is a manager of one. */
  readonly id: string;
  readonly swarm: 'none' | 'manager' | 'worker';
  readonly platform: string | undefined;
}

/**
 * The images of a Swarm's services and of their tasks, which a manager knows of all nodes; of an engine that is in no
 * Swarm, those of its containers.
 */
export class DockerImages implements ImageSource {
  readonly kind = 'docker';
  #worker = false;
  #down = false;

  constructor(private readonly parts: DockerImagesParts) {}

  async identify(signal: AbortSignal): Promise<string | undefined> {
    const info = await this.#tried(() => this.#info(signal), signal);
    const worker = info?.swarm === 'worker';
    if (worker && !this.#worker) {
      this.parts.log.warn('the docker socket is that of a worker, which does not know what its Swarm runs');
    }
    this.#worker = worker;
    return worker ? undefined : info?.id;
  }

  async observe(id: string, observer: Observer, signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted && failures < patience;) {
      const told = await this.#tried(() => this.#images(signal), signal);
      failures = told === undefined ? failures + 1 : 0;
      // It has joined a Swarm, or left it, or is no manager any more.
      if (told !== undefined && (told.id !== id || told.swarm === 'worker')) return;
      if (told !== undefined) {
        observer.seen(told.images, true);
        observer.heard();
      }
      await pause(this.parts.intervalMs, signal);
    }
  }

  async platforms(signal: AbortSignal): Promise<readonly string[]> {
    const nodes = await this.#tried(async () => {
      const { swarm, platform } = await this.#info(signal);
      if (swarm === 'none') return [platform];
      const list = elementsOf(await this.parts.api.get('/nodes', signal));
      return list.map((node) => platformOf(fieldsAt(node, 'Description', 'Platform')));
    }, signal);
    return [...new Set((nodes ?? []).filter((platform) => platform !== undefined))];
  }

  async #info(signal: AbortSignal): Promise<Engine> {
    const info = await this.parts.api.get('/info', signal);
    const { LocalNodeState: state, ControlAvailable: manages } = fieldsAt(info, 'Swarm');
    const { ID: engine, OSType, Architecture } = fieldsAt(info);
    const { ID: cluster } = fieldsAt(info, 'Swarm', 'Cluster');
    const swarm = state !== 'active' ? 'none' : manages === true ? 'manager' : 'worker';
    const id = swarm === 'manager' ? cluster : engine;
    if (typeof id !== 'string' || id === '') throw new DockerError('invalid', '/info: without an ID');
    return { id: idForKey(id), swarm, platform: platformOf({ OS: OSType, Architecture }) };
  }

  async #images(signal: AbortSignal): Promise<Engine & { readonly images: ReadonlyMap<string, true> }> {
    const engine = await this.#info(signal);
    const texts = await this.#names(engine.swarm, signal);
    const here = texts
      .filter((text) => typeof text === 'string')
      .map((text) => this.parts.imageHere(text))
      .filter((image) => image !== undefined);
    return { ...engine, images: new Map(here.map((image) => [image, true] as const)) };
  }

  async #names(swarm: Engine['swarm'], signal: AbortSignal): Promise<unknown[]> {
    if (swarm === 'worker') return [];
    return swarm === 'none' ? this.#ofContainers(signal) : this.#ofServices(signal);
  }

  /** A task keeps what its service had when it began. */
  async #ofServices(signal: AbortSignal): Promise<unknown[]> {
    const { api } = this.parts;
    const services = elementsOf(await api.get('/services', signal));
    const running = elementsOf(await api.get(tasks, signal));
    return [
      ...services.map((service) => fieldsAt(service, 'Spec', 'TaskTemplate', 'ContainerSpec')['Image']),
      ...running.map((task) => fieldsAt(task, 'Spec', 'ContainerSpec')['Image']),
    ];
  }

  /** By the name that they were begun with, and by what the engine knows that name to have been. */
  async #ofContainers(signal: AbortSignal): Promise<unknown[]> {
    const { api } = this.parts;
    const containers = elementsOf(await api.get('/containers/json', signal));
    const images = new Map(
      elementsOf(await api.get('/images/json', signal)).map((image) => [image['Id'], image]),
    );
    return containers.flatMap(({ Image, ImageID }) => [Image, ...digestsOf(images.get(ImageID))]);
  }

  /** `undefined`: it is in trouble, which is said once. */
  async #tried<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
    const { log } = this.parts;
    try {
      const answer = await ask();
      if (this.#down) log.info('docker answers again');
      this.#down = false;
      return answer;
    } catch (err) {
      if (signal.aborted) return undefined;
      if (!(err instanceof DockerError)) throw err;
      if (!this.#down) log.warn({ err }, 'docker cannot be asked what runs, what is known stays');
      this.#down = true;
      return undefined;
    }
  }
}

function digestsOf(image: Fields | undefined): unknown[] {
  const digests = image?.['RepoDigests'];
  return Array.isArray(digests) ? digests : [];
}

function platformOf({ OS, Architecture }: Fields): string | undefined {
  if (typeof OS !== 'string' || typeof Architecture !== 'string') return undefined;
  return `${OS}/${architectures[Architecture] ?? Architecture}`;
}

/** An engine's ID may have colons. */
function idForKey(id: string): string {
  return id.replaceAll(/[^\w-]/g, '-');
}
