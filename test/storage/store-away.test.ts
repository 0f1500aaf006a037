import { rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receive } from '../fakes/slow-client.js';
import { type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { type Image, imageOf, randomLayer } from '../parts/image.js';
import {
  expectSpecError,
  metric,
  type Mirror,
  sha256,
  soundStore,
  startMirror,
  untilIdle,
} from '../parts/mirror.js';
import { freePort } from '../parts/ports.js';
import { S3Counter } from '../parts/s3-counter.js';

function newImage(seed: string): Image {
  return imageOf({ layers: [randomLayer(200_000, `store away ${seed}`)] });
}

/** Every path of an image, by tag and by digest, is answered with the right content. */
async function expectServed({ url }: Pick<Mirror, 'url'>, repository: string, image: Image): Promise<void> {
  const { manifest, config, layers } = image;
  const paths = [
    ...['v1', manifest.digest].map((reference) => ({ path: `manifests/${reference}`, content: manifest })),
    ...[config, ...layers].map((content) => ({ path: `blobs/${content.digest}`, content })),
  ];
  for (const { path, content } of paths) {
    const head = await fetch(url(`${repository}/${path}`), { method: 'HEAD' });
    expect({ path, status: head.status }).toEqual({ path, status: 200 });
    expect(head.headers.get('docker-content-digest')).toBe(content.digest);
    const get = await receive(url(`${repository}/${path}`));
    expect(get).toMatchObject({ status: 200, end: 'complete', sha256: sha256(content.bytes) });
  }
}

/** The lines that tell of an outage. */
function outages(cistern: Cistern): string[] {
  return cistern
    .log()
    .split('\n')
    .filter((line) => line.includes('the store is in trouble, going on without it'));
}

/** Links lead nowhere but to themselves: what is below can neither be read nor written, not even by root. */
async function breakFolder(root: string): Promise<() => Promise<void>> {
  const [tree, aside] = [join(root, 'docker'), join(root, 'docker-aside')];
  await rename(tree, aside);
  await symlink('docker', tree);
  return async () => {
    await rm(tree);
    await rename(aside, tree);
  };
}

describe('with a folder that cannot be read', () => {
  it('what is cached and what is not comes from the upstream', async () => {
    await using folder = await temporaryFolder();
    const [cached, cold] = [newImage('cached'), newImage('cold')];
    {
      await using mirror = await startMirror({ root: folder.path });
      mirror.upstream.addImage('o/cached', 'v1', cached);
      await expectServed(mirror, 'o/cached', cached);
      await untilIdle(mirror.cistern);
    }
    await breakFolder(folder.path);
    await using mirror = await startMirror({ root: folder.path });
    mirror.upstream.addImage('o/cached', 'v1', cached);
    mirror.upstream.addImage('o/cold', 'v1', cold);
    await expectServed(mirror, 'o/cached', cached);
    await expectServed(mirror, 'o/cold', cold);
    const list = await fetch(mirror.url('o/cold/tags/list'));
    expect(await list.json()).toEqual({ name: 'o/cold', tags: ['v1'] });
    expect(await metric(mirror.cistern, 'cistern_storage_failures_total')).toBeGreaterThan(1);
    await expect.poll(() => outages(mirror.cistern)).toHaveLength(1);
  });

  it('nothing is served that the upstream does not confirm', async () => {
    await using folder = await temporaryFolder();
    const image = newImage('private');
    await using mirror = await startMirror({ root: folder.path });
    const { upstream, url } = mirror;
    upstream.addImage('o/private', 'v1', image);
    await expectServed(mirror, 'o/private', image);
    await untilIdle(mirror.cistern);
    await breakFolder(folder.path);
    for (const method of ['GET', 'HEAD']) {
      for (const { digest } of [image.config, ...image.layers]) {
        expect((await fetch(url(`o/other/blobs/${digest}`), { method })).status).toBe(404);
      }
      expect((await fetch(url(`o/other/manifests/${image.manifest.digest}`), { method })).status).toBe(404);
    }
    await upstream.down();
    await expectSpecError(await fetch(url('o/never/manifests/v1')), 503, 'UNAVAILABLE');
    await expectSpecError(await fetch(url('o/never/tags/list')), 503, 'UNAVAILABLE');
  });

  it('a tag is written when the folder is back', async () => {
    await using folder = await temporaryFolder();
    const image = newImage('back');
    await using mirror = await startMirror({ root: folder.path, proxy: { freshness: '0s' } });
    const { upstream, url } = mirror;
    upstream.addImage('o/back', 'v1', image);
    await expectServed(mirror, 'o/back', image);
    await untilIdle(mirror.cistern);
    upstream.addManifest('o/back', image.manifest, 'later');
    const mend = await breakFolder(folder.path);
    expect((await receive(url('o/back/manifests/later'))).status).toBe(200);
    await mend();
    const written = async (): Promise<string | undefined> => {
      expect((await receive(url('o/back/manifests/later'))).status).toBe(200);
      const { links } = await soundStore(folder.path);
      return links['o/back/_manifests/tags/later/current/link'];
    };
    await expect.poll(written).toBe(image.manifest.digest);
  });

  it('without an upstream clients use their next host', async () => {
    await using folder = await temporaryFolder();
    const image = newImage('alone');
    {
      await using mirror = await startMirror({ root: folder.path });
      mirror.upstream.addImage('o/alone', 'v1', image);
      await expectServed(mirror, 'o/alone', image);
      await untilIdle(mirror.cistern);
    }
    await breakFolder(folder.path);
    await using cistern = await startCistern({ root: folder.path });
    const paths = ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${image.config.digest}`];
    for (const path of paths) {
      const answer = await fetch(`${cistern.url}/v2/o/alone/${path}`);
      expect({ path, status: answer.status }).toEqual({ path, status: 503 });
      await expectSpecError(answer, 503, 'UNAVAILABLE');
    }
  });
});

describe('with a bucket that is away', () => {
  it('from the start on, everything comes from the upstream', async () => {
    await using folder = await temporaryFolder();
    const s3 = {
      region: 'us-east-1',
      regionendpoint: `http://127.0.0.1:${await freePort()}`,
      bucket: 'away',
      accesskey: 'somebody',
      secretkey: 'something',
      secure: false,
    };
    await using mirror = await startMirror({
      config: { storage: { s3 } },
      proxy: { spool: { directory: join(folder.path, 'spool') } },
    });
    const image = newImage('refused');
    mirror.upstream.addImage('o/app', 'v1', image);
    await expectServed(mirror, 'o/app', image);
    expect(await metric(mirror.cistern, 'cistern_storage_failures_total')).toBeGreaterThan(1);
    await expect.poll(() => outages(mirror.cistern)).toHaveLength(1);
  });

  describe.skipIf(lacks('ceph', 'ceph-mon', 'ceph-osd', 'radosgw'))('for a while', () => {
    let rgw: CephRgw;
    beforeAll(async () => {
      rgw = await startCephRgw();
    });
    afterAll(async () => {
      await rgw?.[Symbol.asyncDispose]();
    });

    it('what is cached and what is not comes from the upstream', async () => {
      await using folder = await temporaryFolder();
      const { region, regionendpoint, accesskey, secretkey } = rgw;
      const bucket = await rgw.newBucket();
      const s3 = { region, regionendpoint, accesskey, secretkey, bucket, secure: false };
      const start = (): Promise<Mirror> =>
        startMirror({
          config: { storage: { s3 } },
          proxy: { spool: { directory: join(folder.path, 'spool') } },
        });
      const [cached, cold] = [newImage('cached in a bucket'), newImage('cold, without a bucket')];
      {
        await using mirror = await start();
        mirror.upstream.addImage('o/cached', 'v1', cached);
        await expectServed(mirror, 'o/cached', cached);
        await untilIdle(mirror.cistern);
      }
      await using mirror = await start();
      mirror.upstream.addImage('o/cached', 'v1', cached);
      mirror.upstream.addImage('o/cold', 'v1', cold);
      await rgw.stopGateway();
      await expectServed(mirror, 'o/cached', cached);
      await expectServed(mirror, 'o/cold', cold);
      expect(await metric(mirror.cistern, 'cistern_storage_failures_total')).toBeGreaterThan(1);
      await expect.poll(() => outages(mirror.cistern)).toHaveLength(1);
      await rgw.startGateway();
    });

    it('answers from the upstream while the bucket is silent', async () => {
      await using folder = await temporaryFolder();
      await using link = await S3Counter.start(rgw.regionendpoint);
      const s3 = rgw.settings(await rgw.newBucket(), { regionendpoint: link.url });
      await using mirror = await startMirror({
        config: { storage: { s3 } },
        proxy: { spool: { directory: join(folder.path, 'spool') } },
      });
      const [cached, cold] = [newImage('cached before the silence'), newImage('cold in the silence')];
      mirror.upstream.addImage('o/cached', 'v1', cached);
      await expectServed(mirror, 'o/cached', cached);
      await untilIdle(mirror.cistern);
      mirror.upstream.addImage('o/cold', 'v1', cold);
      link.hold = () => new Promise<void>(() => undefined);
      await expectServed(mirror, 'o/cold', cold);
      await expectServed(mirror, 'o/cached', cached);
      await expect.poll(() => outages(mirror.cistern)).toHaveLength(1);
    });

    it('answers while the bucket takes no writes', async () => {
      await using folder = await temporaryFolder();
      await using link = await S3Counter.start(rgw.regionendpoint);
      const s3 = rgw.settings(await rgw.newBucket(), { regionendpoint: link.url });
      await using mirror = await startMirror({
        config: { storage: { s3 } },
        proxy: { spool: { directory: join(folder.path, 'spool') } },
      });
      const [known, cold] = [newImage('known elsewhere'), newImage('cold, without writes')];
      mirror.upstream.addImage('o/known', 'v1', known);
      await expectServed(mirror, 'o/known', known);
      await untilIdle(mirror.cistern);
      mirror.upstream.addImage('o/same', 'v1', known);
      mirror.upstream.addImage('o/cold', 'v1', cold);
      link.hold = ({ method }) =>
        method === 'GET' || method === 'HEAD' ? undefined : new Promise(() => undefined);
      await expectServed(mirror, 'o/cold', cold);
      await expectServed(mirror, 'o/same', known);
      expect(await (await fetch(mirror.url('o/cold/tags/list'))).json()).toMatchObject({ tags: ['v1'] });
    });
  });
});
