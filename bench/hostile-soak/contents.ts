import { type Content, type Image, imageOf, jsonContent, randomLayer } from '../../test/parts/image.js';
import { blobOf } from '../../test/parts/mirror.js';
import { between, type Random } from '../random.js';

/** An image, with the repository and the tag under which clients pull it. */
export interface Published {
  /** As in `/v2/REPOSITORY/…` of the mirror. */
  readonly repository: string;
  readonly tag: string;
  readonly image: Image;
}

/** All content of a run. The same seed makes the same content. */
export interface Contents {
  /** Images on the default upstream, which is honest. */
  readonly honest: readonly Published[];
  /** Images on the default upstream that the storage refuses to return once they are stored. */
  readonly unreadable: readonly Published[];
  /** Images on an upstream from which only the user `honest` may pull. */
  readonly private: readonly Published[];
  /** A blob that is larger than the kernel's buffers. */
  readonly large: Content;
  /** Nested manifests: each names the previous one, the innermost comes first. */
  readonly nested: readonly Content[];
}

export const hosts = { private: 'private.test', liar: 'liar.test' } as const;
export const largeRepository = 'honest/large';

const mebibyte = 1024 * 1024;
const largestLayer = 2 * mebibyte;
const nestedLevels = 3_000;
/** Each of these levels names the previous one twice, so that a walk along every path never ends. */
const doubledLevels = 25;

export function makeContents(random: Random): Contents {
  const make = (count: number, group: string, prefix = ''): Published[] =>
    Array.from({ length: count }, (_, index) => {
      const layers = Array.from({ length: 2 }, (_layer, layer) =>
        randomLayer(
          between(random, 1_000, largestLayer * random() ** 2 + 2_000),
          `${group} ${index} ${layer} ${random()}`,
        ),
      );
      const name = `${group}/r${index % 20}`;
      return { repository: prefix + name, tag: `t${index}`, image: imageOf({ layers }) };
    });
  return {
    honest: make(80, 'honest'),
    unreadable: make(12, 'unreadable'),
    private: make(6, 'team', `${hosts.private}/`),
    large: blobOf(24 * mebibyte, `large ${random()}`),
    nested: nestedIndexes(),
  };
}

function nestedIndexes(): Content[] {
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  const levels: Content[] = [];
  for (let level = 0; level < nestedLevels; level += 1) {
    const inner = levels.at(-1);
    const descriptor = inner && { mediaType, digest: inner.digest, size: inner.size };
    const times = level < doubledLevels ? 2 : 1;
    const manifests = descriptor === undefined ? [] : Array.from({ length: times }, () => descriptor);
    levels.push(
      jsonContent(mediaType, {
        schemaVersion: 2,
        mediaType,
        annotations: { level: String(level) },
        manifests,
      }),
    );
  }
  return levels;
}
