import { describe, expect, it } from 'vitest';
import type { Digest } from '../../src/oci/digest.js';
import { ociIndex, ociManifest } from '../../src/oci/manifest.js';
import { Model, repositoryOf, tagOf } from './model.js';

const day = 24 * 3600;
const app = repositoryOf('team/app');
const other = repositoryOf('team/other');
const v1 = tagOf('v1');

/** An index with one image of one layer, pulled by a tag; its content differs by the repository. */
function pulled(model: Model, repository: typeof app): Digest {
  const layer = model.offer(`layer of ${repository}`);
  const manifest = model.offer({ mediaType: ociManifest, layers: [{ digest: layer, size: 1 }] });
  const index = model.offer({
    mediaType: ociIndex,
    manifests: [{ digest: manifest, mediaType: ociManifest }],
  });
  model.pullManifest(repository, index, v1);
  model.pullManifest(repository, manifest);
  model.pullBlob(repository, layer);
  return index;
}

/** The repositories of which anything is left: each of its parts is there, or none. */
function left(model: Model): string[] {
  const counts = [app, other].map((repository) => {
    const of = (keys: Iterable<string>): number =>
      [...keys].filter((key) => key.startsWith(repository)).length;
    return [repository, of(model.manifests) + of(model.layers) + of(model.tags.keys())] as const;
  });
  return counts.filter(([, count]) => count > 0).map(([repository, count]) => `${repository} ${count}`);
}

describe('an image that runs somewhere', () => {
  it.each(['digest', 'tag'] as const)('does not expire, when it is known by its %s', async (by) => {
    const model = new Model();
    const content = model.content();
    pulled(model, other);
    const index = pulled(model, app);
    model.running = [{ repository: app, reference: by === 'digest' ? index : v1 }];
    model.now += 8 * day;
    await content.expire(model.run());
    expect(left(model)).toEqual([`${app} 4`]);
    model.running = [];
    model.now += 6 * day;
    await content.expire(model.run());
    expect(left(model)).toEqual([`${app} 4`]);
    model.now += 2 * day;
    await content.expire(model.run());
    expect(left(model)).toEqual([]);
  });

  it('is not evicted, though it was used least recently', async () => {
    const model = new Model();
    const content = model.content({ maxBytes: 1 });
    const index = pulled(model, app);
    model.now += day;
    pulled(model, other);
    model.running = [{ repository: app, reference: index }];
    model.now += day;
    await content.evict(model.run());
    expect(left(model)).toEqual([`${app} 4`]);
  });

  it('stays when it began to run while others were removed', async () => {
    const model = new Model();
    const content = model.content({ maxBytes: 1 });
    pulled(model, other);
    model.now += day;
    const index = pulled(model, app);
    model.now += day;
    // After the look, before the first removal.
    let steps = 0;
    model.meanwhile = () => {
      if ((steps += 1) === 1) model.running = [{ repository: app, reference: index }];
    };
    await content.evict(model.run());
    expect(left(model)).toEqual([`${app} 4`]);
  });

  it('is not among what a dry run would remove', async () => {
    const model = new Model();
    const content = model.content();
    pulled(model, other);
    model.running = [{ repository: app, reference: pulled(model, app) }];
    model.now += 8 * day;
    await content.expire(model.run({ dryRun: true }));
    expect(new Set(model.removed.map(({ repository }) => repository))).toEqual(new Set([other]));
  });

  it('may be purged all the same', async () => {
    const model = new Model();
    const content = model.content();
    model.running = [{ repository: app, reference: pulled(model, app) }];
    model.now += day;
    await content.purge(app, undefined, model.run());
    expect(left(model)).toEqual([]);
  });
});
