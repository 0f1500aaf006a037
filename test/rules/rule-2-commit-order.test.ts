import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseTag, type Repository } from '../../src/oci/name.js';
import {
  blobPath,
  layerLinkPath,
  revisionLinkPath,
  tagCurrentPath,
  tagIndexPath,
} from '../../src/storage/layout.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { receive, SlowClient } from '../fakes/slow-client.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { type TemporaryFolder, temporaryFolder } from '../parts/folder.js';
import { imageOf, indexOf, randomLayer } from '../parts/image.js';
import { blobOf, sha256, soundStore, spooled, untilStored } from '../parts/mirror.js';

const size = 3_000_000;

describe('rule 2: a crash leaves only what a sweep removes', () => {
  let upstream: FakeUpstream;
  let folder: TemporaryFolder;
  beforeAll(async () => {
    upstream = await FakeUpstream.start();
    folder = await temporaryFolder();
  });
  afterAll(async () => {
    await upstream[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  const start = (): Promise<Cistern> =>
    startCistern({ root: join(folder.path, 'root'), config: { proxy: { remoteurl: upstream.url } } });

  async function crash(cistern: Cistern): Promise<void> {
    cistern.kill('SIGKILL');
    await cistern.exited;
  }

  /** Starts again on the same folder, and looks at what is there. */
  async function recovered(): Promise<Cistern> {
    await using cleanup = new AsyncDisposableStack();
    await soundStore(join(folder.path, 'root'));
    const cistern = cleanup.use(await start());
    await expect.poll(() => spooled(cistern.root)).toEqual([]); // it may be writing a record itself
    const folders = await readdir(join(cistern.root, 'cistern', 'spool'));
    expect(folders).toEqual([expect.stringMatching(new RegExp(`^${cistern.pid}-`))]);
    cleanup.move();
    return cistern;
  }

  it.each([1, 1_500_000, size])('killed after %i bytes from upstream', async (bytes) => {
    const blob = blobOf(size, `killed after ${bytes}`);
    const path = `/v2/killed/blobs/${blob.digest}`;
    upstream.addBlob('killed', blob);
    {
      await using cistern = await start();
      using client = new SlowClient(`${cistern.url}${path}`);
      await client.answered;
      await upstream.until(() => upstream.bytesSent({ path }) >= bytes);
      await crash(cistern);
      await client.finished;
    }
    await using cistern = await recovered();
    expect(await receive(`${cistern.url}${path}`)).toMatchObject({
      end: 'complete',
      sha256: sha256(blob.bytes),
    });
  });

  it.each([
    ['when the client has the whole', 'received'],
    ['as soon as the blob can be seen', 'stored'],
  ] as const)('killed %s', async (_when, moment) => {
    const blob = blobOf(size, moment);
    const path = `/v2/killed/blobs/${blob.digest}`;
    upstream.addBlob('killed', blob);
    {
      await using cistern = await start();
      const received = receive(`${cistern.url}${path}`);
      await (moment === 'received' ? received : untilStored(cistern, blob.digest));
      await crash(cistern);
    }
    await using cistern = await recovered();
    expect(await receive(`${cistern.url}${path}`)).toMatchObject({
      end: 'complete',
      sha256: sha256(blob.bytes),
    });
  });

  it.each([1, 2, 4, 8])('killed at request %i of a pull of an index by tag', async (requests) => {
    const repository = `pulled/${requests}`;
    const index = indexOf(
      [1, 2, 3].map((n) => imageOf({ layers: [randomLayer(50_000, `${requests}-${n}`)] })),
    );
    upstream.addImage(repository, 'v1', index);
    const base = `/v2/${repository}`;
    const wanted = [
      `${base}/manifests/v1`,
      ...index.images.flatMap(({ manifest, config, layers }) => [
        `${base}/manifests/${manifest.digest}`,
        ...[config, ...layers].map(({ digest }) => `${base}/blobs/${digest}`),
      ]),
    ];
    {
      await using cistern = await start();
      for (const path of wanted.slice(0, requests - 1)) await receive(`${cistern.url}${path}`);
      const before = upstream.requests.length;
      const last = receive(`${cistern.url}${wanted[requests - 1]}`);
      await upstream.until(() => upstream.requests.length > before);
      last.catch(() => {});
      await crash(cistern);
    }
    await using cistern = await recovered();
    for (const path of wanted) {
      const { status, end } = await receive(`${cistern.url}${path}`);
      expect({ path, status, end }).toEqual({ path, status: 200, end: 'complete' });
    }
    const { links } = await soundStore(cistern.root);
    expect(links[`${repository}/_manifests/tags/v1/current/link`]).toBe(index.manifest.digest);
  });

  it('what leads to content is seen after it: data, link, tag', async () => {
    await using cistern = await start();
    const at = (path: string): string => join(cistern.root, path);
    for (let n = 0; n < 20; n += 1) {
      const repository = `order/${n}` as Repository;
      const image = imageOf({ layers: [randomLayer(20_000, `order ${n}`)] });
      upstream.addImage(repository, 'v1', image);
      const { digest } = image.manifest;
      const layer = image.layers[0]?.digest ?? digest;
      const [tag, data] = [parseTag('v1'), blobPath(digest)];
      if (tag === undefined) throw new Error('v1 is a tag');
      const revision = revisionLinkPath(repository, digest);
      const index = tagIndexPath(repository, tag, digest);
      const seen = [
        missingWhenSeen(at(layerLinkPath(repository, layer)), [at(blobPath(layer))]),
        missingWhenSeen(at(revision), [at(data)]),
        missingWhenSeen(at(index), [at(revision), at(data)]),
        missingWhenSeen(at(tagCurrentPath(repository, tag)), [at(index), at(revision), at(data)]),
      ];
      await receive(`${cistern.url}/v2/${repository}/manifests/v1`);
      await receive(`${cistern.url}/v2/${repository}/blobs/${layer}`);
      expect(await Promise.all(seen)).toEqual([[], [], [], []]);
    }
  });
});

/** Looks for a link as often as it can, and at once for what must be there before it. */
async function missingWhenSeen(link: string, needed: readonly string[]): Promise<string[]> {
  while (!existsSync(link)) await immediate();
  return needed.filter((path) => !existsSync(path));
}
