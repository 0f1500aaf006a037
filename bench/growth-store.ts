import { setImmediate as breathe } from 'node:timers/promises';
import type { Descriptor } from '../src/oci/descriptor.js';
import { parseRepository, parseTag, type Repository, type Tag } from '../src/oci/name.js';
import { blobsPerImage, known, linkImage, type StoredImage, types, writeImage } from './large-store.js';

/** Each image is linked in so many repositories, as if teams had copies of the same. */
const copies = 10;
const imagesPerRepository = 100;
const imagesAtOnce = 50;

/** An image as one of its repositories has it. */
interface Linked {
  readonly repository: Repository;
  readonly tag: Tag;
  readonly image: StoredImage;
}

/** A store in which so many descriptors are known: pairs of a repository and what is linked in it. */
export class GrowthStore {
  private constructor(
    readonly root: string,
    private readonly images: readonly StoredImage[],
  ) {}

  /** `descriptors`: a multiple of 100. */
  static async write(root: string, descriptors: number, signal: AbortSignal): Promise<GrowthStore> {
    const images: StoredImage[] = [];
    for (let n = 0; n < descriptors / (copies * blobsPerImage); n += 1) {
      signal.throwIfAborted();
      const image = writeImage(root);
      for (let copy = 0; copy < copies; copy += 1) {
        const like = copy === 0 ? undefined : repositoryOf(n, 0);
        linkImage(root, repositoryOf(n, copy), tagOf(n), image, like);
      }
      images.push(image);
      if (n % imagesAtOnce === 0) await breathe();
    }
    return new GrowthStore(root, images);
  }

  /** Images, in the repositories that have them. */
  get linked(): number {
    return this.images.length * copies;
  }

  at(index: number): Linked {
    const n = Math.floor(index / copies);
    const image = this.images[n];
    if (image === undefined) throw new Error(`the store has no image ${index}`);
    return { repository: repositoryOf(n, index % copies), tag: tagOf(n), image };
  }

  /** With their keys, as replicas share them. */
  *descriptors(): Generator<readonly [key: string, descriptor: Descriptor]> {
    for (let index = 0; index < this.linked; index += 1) {
      const { repository, image } = this.at(index);
      for (const part of image.parts) {
        yield [`${repository}@${part.digest}`, { ...part, mediaType: 'application/octet-stream' }];
      }
      yield [`${repository}@${image.manifest.digest}`, manifestOf(image)];
    }
  }

  /** With their keys, as replicas share them. */
  *tags(): Generator<readonly [key: string, descriptor: Descriptor]> {
    for (let index = 0; index < this.linked; index += 1) {
      const { repository, tag, image } = this.at(index);
      yield [`${repository}:${tag}`, manifestOf(image)];
    }
  }
}

function manifestOf({ manifest }: StoredImage): Descriptor {
  return { ...manifest, mediaType: types.manifest };
}

function repositoryOf(n: number, copy: number): Repository {
  return known(parseRepository(`bench/app-${Math.floor(n / imagesPerRepository)}-${copy}`));
}

function tagOf(n: number): Tag {
  return known(parseTag(`v${n}`));
}
