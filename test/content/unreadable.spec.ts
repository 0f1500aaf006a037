import { describe, expect, it } from 'vitest';
import type { StoredContentOptions } from '../../src/content/stored-content.js';
import type { Digest } from '../../src/oci/digest.js';
import { ociIndex, ociManifest } from '../../src/oci/manifest.js';
import { Model, repositoryOf, tagOf, wait } from './model.js';

const day = 24 * 3600;
const app = repositoryOf('team/app');
const other = repositoryOf('team/other');
const v1 = tagOf('v1');

interface Image {
  readonly manifest: Digest;
  readonly layer: Digest;
}

/** An image of one layer, pulled under a tag. */
function pulled(model: Model, repository: typeof app, content = `layer of ${repository}`): Image {
  const layer = model.offer(content);
  const manifest = model.offer({ mediaType: ociManifest, layers: [{ digest: layer, size: 1 }] });
  model.pullManifest(repository, manifest, v1);
  model.pullBlob(repository, layer);
  return { manifest, layer };
}

/** What is left of a repository: links and tags. */
function linksOf(model: Model, repository: typeof app): number {
  return [...model.layers, ...model.manifests, ...model.tags.keys()].filter(
    (key) => key.startsWith(`${repository}@`) || key.startsWith(`${repository}:`),
  ).length;
}

async function expireTwice(model: Model, options: Partial<StoredContentOptions> = {}): Promise<void> {
  const content = model.content(options);
  await content.expire(model.run());
  model.now += 8 * day;
  await content.expire(model.run());
  model.now += wait;
  await content.expire(model.run());
}

describe('a job over a storage that does not give everything', () => {
  it('goes on past a manifest that cannot be read, and keeps what its repository holds', async () => {
    const model = new Model();
    const kept = pulled(model, app);
    pulled(model, other);
    model.refused.add(kept.manifest);
    await expireTwice(model);
    expect(linksOf(model, other)).toBe(0);
    expect(linksOf(model, app)).toBe(3);
    expect([...model.blobs.keys()].toSorted()).toEqual([kept.layer, kept.manifest].toSorted());
    expect(model.problems).toContainEqual({
      subject: kept.manifest,
      message: expect.stringContaining('refused') as string,
    });
    model.refused.clear();
    await expireTwice(model);
    expect(model.blobs.size).toBe(0);
  });

  it('goes on with the references of an unreadable manifest that an earlier look has read', async () => {
    const model = new Model();
    const { manifest, layer } = pulled(model, app);
    const content = model.content();
    await content.reindex(model.run());
    model.refused.add(manifest);
    model.layers.delete(`${app}@${layer}`);
    for (let days = 0; days < 9; days += 1) {
      model.now += day;
      model.touch(app, manifest);
      await content.sweep(model.run());
    }
    expect(model.blobs.has(layer)).toBe(true);
  });

  it.each(['evict', 'sweep', 'reindex', 'expire'] as const)(
    '%s ends well, and frees what it may',
    async (job) => {
      const model = new Model();
      const kept = pulled(model, app);
      pulled(model, other);
      model.refused.add(kept.manifest);
      const content = model.content({ maxBytes: 1 });
      model.now += day;
      await content[job](model.run());
      expect(model.problems).not.toEqual([]);
      expect(linksOf(model, app)).toBe(3);
      expect(linksOf(model, other)).toBe(job === 'evict' ? 0 : 3);
    },
  );

  it('lets an operator purge the image whose manifest cannot be read', async () => {
    const model = new Model();
    const { manifest } = pulled(model, app);
    model.refused.add(manifest);
    const content = model.content();
    await content.purge(app, manifest, model.run());
    expect(model.manifests.size + model.tags.size).toBe(0);
    model.refused.clear();
    await expireTwice(model);
    expect(model.blobs.size).toBe(0);
  });

  it('keeps a repository with a tag that cannot be read', async () => {
    const model = new Model();
    pulled(model, app);
    pulled(model, other);
    model.refused.add(`${app}:v1`);
    await expireTwice(model);
    expect([linksOf(model, app), linksOf(model, other)]).toEqual([3, 0]);
    await model.content().collect(model.run(), true);
    expect(linksOf(model, app)).toBe(3);
  });

  it('deletes no content while links cannot be listed, which may lead to it', async () => {
    const model = new Model();
    const shared = 'a layer of both';
    pulled(model, app, shared);
    pulled(model, other, shared);
    model.unlisted = app;
    await expireTwice(model);
    expect([linksOf(model, app), linksOf(model, other)]).toEqual([3, 0]);
    expect(model.blobs.size).toBe(2);
    model.unlisted = undefined;
    await expireTwice(model);
    expect(model.blobs.size).toBe(0);
  });

  it('goes on past links and content that cannot be removed', async () => {
    const model = new Model();
    const stuck = pulled(model, app);
    for (let n = 0; n < 5; n += 1) pulled(model, repositoryOf(`team/other${n}`));
    model.refused.add(`${app}@${stuck.manifest}`);
    await expireTwice(model);
    expect([...model.manifests]).toEqual([`${app}@${stuck.manifest}`]);
    model.refused.clear();
    model.refused.add(stuck.layer);
    await expireTwice(model);
    expect([...model.blobs.keys()]).toEqual([stuck.layer]);
    expect(model.problems.map(({ subject }) => subject)).toContain(stuck.layer);
  });

  it('fails where the storage as a whole is away', async () => {
    const model = new Model();
    for (let n = 0; n < 12; n += 1) model.refused.add(pulled(model, app, `${n}`).manifest);
    model.away = true;
    await expect(model.content().sweep(model.run())).rejects.toMatchObject({ code: 'denied' });
  });
});

describe('a job over content that a stranger made', () => {
  it('follows indexes in indexes as deep as they are', async () => {
    const model = new Model();
    const layer = model.offer('layer');
    let top = model.offer({ mediaType: ociManifest, layers: [{ digest: layer, size: 1 }] });
    model.pullManifest(app, top);
    model.pullBlob(app, layer);
    for (let depth = 0; depth < 12_000; depth += 1) {
      top = model.offer({ mediaType: ociIndex, manifests: [{ digest: top, mediaType: ociManifest }] });
      model.pullManifest(app, top);
    }
    model.pullManifest(app, top, v1);
    const content = model.content();
    for (let days = 0; days < 2; days += 1) {
      model.now += 4 * day;
      model.touch(app, top);
      await content.expire(model.run());
    }
    expect(model.blobs.size).toBe(12_002);
  });

  it('purges indexes in indexes down to the last layer', async () => {
    const model = new Model();
    let { manifest: top } = pulled(model, app);
    model.tags.clear();
    for (let depth = 0; depth < 50; depth += 1) {
      top = model.offer({ mediaType: ociIndex, manifests: [{ digest: top, mediaType: ociManifest }] });
      model.pullManifest(app, top);
    }
    model.pullManifest(app, top, v1);
    await model.content().purge(app, v1, model.run());
    expect(linksOf(model, app)).toBe(0);
  });

  it('looks once at what many ways lead to', async () => {
    const model = new Model();
    const bottom = ['a', 'b'].map((text) => model.offer({ mediaType: ociIndex, manifests: [], text }));
    let layer = bottom;
    for (let depth = 0; depth < 25; depth += 1) {
      const manifests = layer.map((digest) => ({ digest, mediaType: ociIndex }));
      layer = ['a', 'b'].map((text) => model.offer({ mediaType: ociIndex, manifests, text }));
      for (const digest of layer) model.pullManifest(app, digest, v1);
    }
    for (const digest of bottom) model.pullManifest(app, digest);
    const content = model.content();
    model.now += 4 * day;
    for (const digest of layer) model.touch(app, digest);
    await content.expire(model.run());
    model.now += 4 * day;
    await content.expire(model.run());
    expect(model.manifests.size).toBe(52);
    for await (const page of content.images(model.run())) expect(page).toHaveLength(1);
    await content.purge(app, undefined, model.run());
    expect(model.manifests.size).toBe(0);
  });
});
