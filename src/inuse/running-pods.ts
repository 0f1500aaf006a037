import { KubernetesError, type KubernetesApi } from '../kubernetes/kubernetes.js';
import { ObjectWatch, type KubernetesObject } from '../kubernetes/object-watch.js';
import type { Logger } from '../telemetry/log.js';
import type { Metrics } from '../telemetry/metrics.js';
import { elementsAt, fieldsAt } from './fields.js';
import type { ImageSource, Observer } from './image-source.js';

/** Pods that have not ended: an unknown phase is one of them. */
const running = 'status.phase!=Succeeded,status.phase!=Failed';
/** More nodes than a cluster has kinds of. */
const mostNodes = 500;

export interface RunningPodsParts {
  readonly api: KubernetesApi;
  /** None: all. */
  readonly namespaces: readonly string[];
  /** What an image's name is in the store; `undefined`: nothing of it is. */
  readonly imageHere: (text: string) => string | undefined;
  readonly log: Logger;
  readonly metrics: Metrics;
}

/** The images of Pods, watched. Of a Pod nothing but their names is kept. */
export class RunningPods implements ImageSource {
  readonly kind = 'kubernetes';
  #unreachable = false;

  constructor(private readonly parts: RunningPodsParts) {}

  async identify(): Promise<string | undefined> {
    const { api, namespaces, log } = this.parts;
    try {
      const { cluster } = await api.place();
      this.#unreachable = false;
      return [cluster, ...namespaces.toSorted()].join('.');
    } catch (err) {
      if (!(err instanceof KubernetesError)) throw err;
      if (!this.#unreachable) log.warn({ err }, 'kubernetes cannot be asked what runs');
      this.#unreachable = true;
      return undefined;
    }
  }

  async observe(_id: string, observer: Observer, signal: AbortSignal): Promise<void> {
    const { namespaces, ...parts } = this.parts;
    const images = new CountedImages();
    const paths = namespaces.length === 0 ? ['/api/v1/pods'] : namespaces.map(podsIn);
    const unlisted = new Set(paths);
    const tell = (): void => observer.seen(images.counts, unlisted.size === 0);
    const watches = paths.map((path) => {
      const names = new Set<string>();
      return new ObjectWatch<readonly string[]>({
        ...parts,
        path,
        fieldSelector: running,
        resource: 'pods',
        read: (pod) => this.#imagesOf(pod),
        listed: (pods) => {
          for (const name of names) if (!pods.has(name)) images.set(name, []);
          names.clear();
          for (const [name, its] of pods) {
            images.set(name, its);
            names.add(name);
          }
          unlisted.delete(path);
          tell();
        },
        changed: (name, its) => {
          images.set(name, its ?? []);
          if (its === undefined) names.delete(name);
          else names.add(name);
          tell();
        },
        heard: () => observer.heard(),
      });
    });
    await Promise.all(watches.map((watch) => watch.run(signal)));
  }

  async platforms(signal: AbortSignal): Promise<readonly string[]> {
    try {
      const list = await this.parts.api.get('/api/v1/nodes', { limit: String(mostNodes) }, signal);
      const platforms = elementsAt(list, 'items').map((node) => {
        const { operatingSystem, architecture } = fieldsAt(node, 'status', 'nodeInfo');
        return typeof operatingSystem === 'string' && typeof architecture === 'string'
          ? `${operatingSystem}/${architecture}`
          : undefined;
      });
      return [...new Set(platforms.filter((platform) => platform !== undefined))];
    } catch (err) {
      if (!(err instanceof KubernetesError)) throw err;
      this.parts.log.warn(
        { err },
        'kubernetes does not say what its nodes are: images come for all platforms',
      );
      return [];
    }
  }

  /** What its containers are to run, and what they do run: by digest, once it was pulled. */
  #imagesOf(pod: KubernetesObject): readonly string[] {
    const kinds = ['initContainer', 'container', 'ephemeralContainer'];
    const wanted = kinds.flatMap((kind) => elementsAt(pod['spec'], `${kind}s`).map(({ image }) => image));
    const pulled = kinds.flatMap((kind) =>
      elementsAt(pod['status'], `${kind}Statuses`).map(({ imageID }) => imageID),
    );
    const texts = [...wanted, ...pulled].filter((text) => typeof text === 'string');
    const here = texts.map((text) => this.parts.imageHere(text)).filter((image) => image !== undefined);
    return [...new Set(here)];
  }
}

/** Images by who runs them. Equal names are kept once, however many run them. */
class CountedImages {
  /** With their number; this very map changes. */
  readonly counts = new Map<string, number>();
  readonly #byOwner = new Map<string, readonly string[]>();
  readonly #texts = new Map<string, string>();

  set(owner: string, images: readonly string[]): void {
    const before = this.#byOwner.get(owner) ?? [];
    if (images.length === 0) this.#byOwner.delete(owner);
    else
      this.#byOwner.set(
        owner,
        images.map((text) => this.#add(text)),
      );
    for (const text of before) this.#remove(text);
  }

  #add(text: string): string {
    this.counts.set(text, (this.counts.get(text) ?? 0) + 1);
    const known = this.#texts.get(text) ?? text;
    this.#texts.set(known, known);
    return known;
  }

  #remove(text: string): void {
    const count = (this.counts.get(text) ?? 0) - 1;
    if (count > 0) this.counts.set(text, count);
    else {
      this.counts.delete(text);
      this.#texts.delete(text);
    }
  }
}

function podsIn(namespace: string): string {
  return `/api/v1/namespaces/${namespace}/pods`;
}
