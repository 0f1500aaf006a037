import { describe, expect, it } from 'vitest';
import type { CachedImage } from '../../src/content/content.js';
import type { Digest } from '../../src/oci/digest.js';
import { ociIndex, ociManifest } from '../../src/oci/manifest.js';
import { grace, Model, repositoryOf, tagOf, wait } from './model.js';

const day = 24 * 3600;
const app = repositoryOf('team/app');
const other = repositoryOf('team/other');
const v1 = tagOf('v1');

interface Image {
  readonly manifest: Digest;
  readonly blobs: readonly Digest[];
}

function image(model: Model, ...contents: string[]): Image {
  const blobs = contents.map((content) => model.offer(content));
  const layers = blobs.map((digest) => ({ digest, size: 1 }));
  return { manifest: model.offer({ mediaType: ociManifest, layers }), blobs };
}

function pull(model: Model, repository: typeof app, { manifest, blobs }: Image, tag?: typeof v1): void {
  model.pullManifest(repository, manifest, tag);
  for (const blob of blobs) model.pullBlob(repository, blob);
}

describe('content that is not used', () => {
  it('goes in two steps: what points to it, and after the wait the content', async () => {
    const model = new Model();
    const content = model.content();
    const { manifest, blobs } = image(model, 'one', 'two');
    pull(model, app, { manifest, blobs }, v1);
    await content.expire(model.run());
    model.now += 6 * day;
    await content.expire(model.run());
    expect([model.manifests.size, model.layers.size, model.tags.size, model.blobs.size]).toEqual([
      1, 2, 1, 3,
    ]);
    model.now += 2 * day;
    const summary = await content.expire(model.run());
    expect([model.manifests.size, model.layers.size, model.tags.size, model.blobs.size]).toEqual([
      0, 0, 0, 3,
    ]);
    expect(summary).toMatchObject({ tags: 1, manifests: 1, layers: 2 });
    expect(summary['hiddenBytes']).toBe(model.bytes);
    model.now += wait - 1;
    await content.expire(model.run());
    expect(model.blobs.size).toBe(3);
    model.now += 1;
    const bytes = model.bytes;
    expect(await content.expire(model.run())).toMatchObject({ blobs: 3, bytes });
    expect(model.blobs.size).toBe(0);
  });

  it('stays while a manifest that refers to it is used, though it is not', async () => {
    const model = new Model();
    const content = model.content();
    const linux = image(model, 'layer');
    const index = model.offer({
      mediaType: ociIndex,
      manifests: [{ digest: linux.manifest, mediaType: ociManifest }],
    });
    model.pullManifest(app, index, v1);
    pull(model, app, linux);
    for (let days = 0; days < 30; days += 1) {
      model.now += day;
      model.touch(app, index);
      await content.expire(model.run());
    }
    expect([model.manifests.size, model.layers.size, model.blobs.size]).toEqual([2, 1, 3]);
  });

  it('stays under another repository that uses it, or whose manifest refers to it', async () => {
    const model = new Model();
    const content = model.content();
    const first = image(model, 'shared', 'own');
    const second = image(model, 'shared', 'its own');
    pull(model, app, first, v1);
    // Its client had the shared layer already.
    model.pullManifest(other, second.manifest, v1);
    model.pullBlob(other, second.blobs[1] ?? first.manifest);
    for (let days = 0; days < 10; days += 1) {
      model.now += day;
      model.touch(other, second.manifest);
      await content.expire(model.run());
    }
    expect([...model.blobs.keys()].toSorted()).toEqual([second.manifest, ...second.blobs].toSorted());
    expect([...model.layers]).toEqual([`${other}@${second.blobs[1]}`]);
  });

  it('is rescued by a use before its content is deleted', async () => {
    const model = new Model();
    const content = model.content();
    const pulled = image(model, 'one');
    pull(model, app, pulled);
    await content.expire(model.run());
    model.now += 8 * day;
    await content.expire(model.run());
    expect(model.manifests.size).toBe(0);
    model.now += wait;
    pull(model, app, pulled);
    await content.expire(model.run());
    expect([model.manifests.size, model.layers.size, model.blobs.size]).toEqual([1, 1, 2]);
  });

  it('rule 8: stays when another replica links it while what was hidden with it is being deleted', async () => {
    const model = new Model();
    const content = model.content();
    const pulled = image(model, 'one');
    pull(model, app, pulled, v1);
    await content.purge(app, v1, model.run());
    model.now += wait;
    let linked = false;
    model.meanwhile = () => {
      if (linked || model.blobs.size === 2) return;
      linked = true;
      model.elsewhere = true;
      pull(model, other, pulled, v1);
    };
    await content.collect(model.run(), false);
    expect(linked).toBe(true);
    expect([model.manifests.size, model.layers.size, model.blobs.size]).toEqual([1, 1, 2]);
  });

  it('counts as used now where nobody knows', async () => {
    const model = new Model();
    const content = model.content();
    pull(model, app, image(model, 'one'), v1);
    model.forgetUses();
    model.now += 30 * day;
    await content.expire(model.run());
    expect(model.manifests.size).toBe(1);
    model.now += 6 * day;
    await content.expire(model.run());
    expect(model.manifests.size).toBe(1);
    model.now += day;
    await content.expire(model.run());
    expect(model.manifests.size).toBe(0);
  });

  it('stays as long as nothing may be deleted, and is caught up with afterwards', async () => {
    const model = new Model();
    const content = model.content();
    pull(model, app, image(model, 'one'), v1);
    await content.expire(model.run());
    model.mayDelete = false;
    model.now += 30 * day;
    for (const job of ['expire', 'evict', 'sweep', 'reindex'] as const) await content[job](model.run());
    await content.collect(model.run(), true);
    await content.purge(app, undefined, model.run());
    expect([model.manifests.size, model.layers.size, model.tags.size, model.blobs.size]).toEqual([
      1, 1, 1, 2,
    ]);
    expect(model.removed).toEqual([]);
    model.mayDelete = true;
    await content.expire(model.run());
    expect(model.manifests.size).toBe(0);
  });

  it('follows a time to live that was changed', async () => {
    const model = new Model();
    pull(model, app, image(model, 'one'), v1);
    await model.content().expire(model.run());
    model.now += day + 1;
    await model.content().expire(model.run());
    expect(model.manifests.size).toBe(1);
    const ttl = { ttlOf: () => day * 1000, ttls: '24h', shortestTtlMs: day * 1000 };
    await model.content(ttl).expire(model.run());
    expect(model.manifests.size).toBe(0);
  });

  it('never expires where the time to live is 0', async () => {
    const model = new Model();
    const content = model.content({
      ttlOf: (repository) => (repository === app ? 0 : day * 1000),
      ttls: 'one',
      shortestTtlMs: day * 1000,
    });
    pull(model, app, image(model, 'one'), v1);
    pull(model, other, image(model, 'two'), v1);
    await content.expire(model.run());
    model.now += 30 * day;
    await content.expire(model.run());
    expect([...model.tags.keys()]).toEqual([`${app}:v1`]);
  });
});

describe('a store that is too full', () => {
  it('gives up what was used least recently, down to the low mark, and nothing that was used just now', async () => {
    const model = new Model();
    const images = Array.from({ length: 10 }, (_, n) => image(model, `${n}`.repeat(1000)));
    for (const each of images) {
      pull(model, app, each);
      model.now += 3600;
    }
    const content = model.content({ maxBytes: 8_000 });
    model.touch(app, images[0]?.manifest ?? ('' as Digest));
    const before = model.bytes;
    await content.evict(model.run());
    expect(model.bytes).toBe(before);
    model.now += wait;
    await content.evict(model.run());
    expect(model.bytes).toBeLessThanOrEqual(8_000);
    expect(model.bytes).toBeGreaterThan(6_000);
    const left = images.map(({ manifest }) => model.manifests.has(`${app}@${manifest}`));
    expect(left[0]).toBe(true);
    expect(left.slice(1)).toEqual(left.slice(1).toSorted());
    const small = model.content({ maxBytes: 1 });
    for (const each of images) pull(model, app, each);
    await small.evict(model.run());
    model.now += grace - 1;
    await small.evict(model.run());
    expect(model.manifests.size).toBe(10);
  });

  it('makes room where little is free, counting what is on its way out', async () => {
    const model = new Model();
    const disk = 20_000;
    for (let n = 0; n < 10; n += 1) pull(model, app, image(model, `${n}`.repeat(1000)));
    const content = model.content({
      minFreeBytes: 12_000,
      freeBytes: () => Promise.resolve(disk - model.bytes),
    });
    model.now += wait;
    await content.evict(model.run());
    const links = model.layers.size;
    expect(links).toBeLessThan(10);
    await content.evict(model.run());
    expect(model.layers.size).toBe(links);
    model.now += wait;
    await content.evict(model.run());
    expect(disk - model.bytes).toBeGreaterThanOrEqual(12_000);
    expect(model.layers.size).toBe(links);
  });
});

describe('what leads nowhere', () => {
  it('is swept: links without content, tags without a manifest, content without links', async () => {
    const model = new Model();
    const content = model.content();
    const pulled = image(model, 'one', 'two');
    pull(model, app, pulled, v1);
    model.blobs.delete(pulled.blobs[0] ?? pulled.manifest);
    model.tags.set(`${other}:gone`, pulled.manifest);
    model.blobs.set(model.offer('nobody'), { bytes: Buffer.from('nobody'), at: model.now });
    const summary = await content.sweep(model.run());
    expect(summary).toMatchObject({ layers: 1, tags: 1 });
    expect([...model.tags.keys()]).toEqual([`${app}:v1`]);
    model.now += wait;
    expect(await content.sweep(model.run())).toMatchObject({ blobs: 1, bytes: 6 });
    expect(model.unreferenced()).toEqual([]);
  });

  it('loses its untagged manifests when that is asked for, but not what a tag needs', async () => {
    const model = new Model();
    const content = model.content();
    const linux = image(model, 'layer');
    const index = model.offer({ mediaType: ociIndex, manifests: [{ digest: linux.manifest }] });
    model.pullManifest(app, index, v1);
    pull(model, app, linux);
    pull(model, app, image(model, 'untagged', 'layer'));
    model.now += wait;
    await content.collect(model.run(), false);
    expect(model.manifests.size).toBe(3);
    await content.collect(model.run(), true);
    expect([model.manifests.size, model.layers.size]).toEqual([2, 1]);
  });
});

describe('purging', () => {
  it('takes the tag, and what only its manifest refers to', async () => {
    const model = new Model();
    const content = model.content();
    pull(model, app, image(model, 'shared', 'one'), v1);
    const two = image(model, 'shared', 'two');
    pull(model, app, two, tagOf('v2'));
    await content.purge(app, v1, model.run());
    expect([...model.tags.keys()]).toEqual([`${app}:v2`]);
    expect([...model.manifests]).toEqual([`${app}@${two.manifest}`]);
    expect(model.layers.size).toBe(2);
    await content.purge(app, undefined, model.run());
    expect([model.tags.size, model.manifests.size, model.layers.size]).toEqual([0, 0, 0]);
    model.now += wait;
    await content.sweep(model.run());
    expect(model.blobs.size).toBe(0);
  });

  it('leaves a manifest that another tag points to', async () => {
    const model = new Model();
    const pulled = image(model, 'one');
    pull(model, app, pulled, v1);
    pull(model, app, pulled, tagOf('latest'));
    await model.content().purge(app, v1, model.run());
    expect([...model.tags.keys()]).toEqual([`${app}:latest`]);
    expect(model.manifests.size).toBe(1);
  });
});

describe('looking on', () => {
  it('lists images with their size and last use', async () => {
    const model = new Model();
    const pulled = image(model, 'one', 'two');
    pull(model, app, pulled, v1);
    const loose = image(model, 'three');
    pull(model, other, loose);
    const at = model.now;
    model.now += 100;
    const images: CachedImage[] = [];
    for await (const page of model.content().images(model.run())) images.push(...page);
    const bytes = (digests: readonly Digest[]): number =>
      digests.reduce((sum, digest) => sum + (model.blobs.get(digest)?.bytes.byteLength ?? 0), 0);
    expect(images).toEqual([
      {
        repository: app,
        tag: v1,
        digest: pulled.manifest,
        bytes: bytes([pulled.manifest, ...pulled.blobs]),
        lastUsedMs: at * 1000,
      },
      {
        repository: other,
        tag: undefined,
        digest: loose.manifest,
        bytes: bytes([loose.manifest, ...loose.blobs]),
        lastUsedMs: at * 1000,
      },
    ]);
  });

  it('says in a dry run exactly what is done afterwards, and does nothing', async () => {
    const model = new Model();
    const content = model.content({ maxBytes: 3_000 });
    for (let n = 0; n < 6; n += 1) {
      pull(model, n % 2 === 0 ? app : other, image(model, `${n}`.repeat(900), 'shared'), tagOf(`v${n}`));
      model.now += day;
    }
    await content.expire(model.run());
    model.now += 2 * day;
    const before = [model.manifests.size, model.layers.size, model.tags.size, model.blobs.size];
    await content.collect(model.run({ dryRun: true }), false);
    expect([model.manifests.size, model.layers.size, model.tags.size, model.blobs.size]).toEqual(before);
    const said = model.removed.splice(0);
    expect(said.length).toBeGreaterThan(4);
    await content.collect(model.run(), false);
    expect(model.removed).toEqual(said);
  });
});

describe('the list of repositories', () => {
  function listed({ records }: Model): string[] {
    return [...records]
      .filter(([key]) => key.startsWith('content/repositories/'))
      .flatMap(([, bytes]) => bytes.toString().trim().split('\n'));
  }

  it('holds those with a manifest after each look through the storage', async () => {
    const model = new Model();
    const content = model.content();
    const pulled = image(model, 'one');
    for (const repository of [app, other]) pull(model, repository, pulled);
    model.pullBlob(repositoryOf('only/layers'), pulled.blobs[0] ?? pulled.manifest);
    await content.reindex(model.run());
    expect(listed(model)).toEqual([app, other]);
    await content.purge(app, undefined, model.run({ dryRun: true }));
    expect(listed(model)).toEqual([app, other]);
    await content.purge(app, undefined, model.run());
    expect(listed(model)).toEqual([other]);
  });

  it('is divided into records of a thousand names', async () => {
    const model = new Model();
    const { manifest } = image(model, 'one');
    const names = Array.from({ length: 2_500 }, (_, n) => repositoryOf(`app-${1_000_000 + n}`));
    for (const repository of names) model.pullManifest(repository, manifest);
    await model.content().reindex(model.run());
    expect(listed(model)).toEqual(names);
    const parts = [...model.records.keys()].filter((key) => key.startsWith('content/repositories/'));
    expect(parts).toHaveLength(3);
  });

  it('stays while the storage does not list every repository', async () => {
    const model = new Model();
    const content = model.content();
    const pulled = image(model, 'one');
    for (const repository of [app, other]) pull(model, repository, pulled);
    await content.reindex(model.run());
    model.unlisted = app;
    await content.reindex(model.run());
    expect(listed(model)).toEqual([app, other]);
  });
});
