import { join } from 'node:path';
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseRepository, type Repository } from '../../src/oci/name.js';
import { blobPath, revisionLinkPath } from '../../src/storage/layout.js';
import { cephParts, type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import type { Settings } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { metric, type Mirror, startMirror } from '../parts/mirror.js';
import { patience } from '../parts/patience.js';
import { until } from '../parts/process.js';
import { S3Counter } from '../parts/s3-counter.js';

const { manifest } = imageOf({ layers: [randomLayer(10, 'catalogue')] });
const many = repositories(400);
const few = repositories(40);
/** The bucket gets at most so many of its keys listed for one page of a recorded list. */
const fewLists = 2;

function repositories(count: number): Repository[] {
  return Array.from({ length: count }, (_, n) => repository(`team-${n % 40}/app-${n}`)).toSorted();
}

function repository(text: string): Repository {
  const name = parseRepository(text);
  if (name === undefined) throw new TypeError(text);
  return name;
}

describe.skipIf(lacks(...cephParts))('the catalogue of a bucket', () => {
  let rgw: CephRgw;
  beforeAll(async () => {
    rgw = await startCephRgw();
  });
  afterAll(async () => {
    await rgw?.[Symbol.asyncDispose]();
  });

  /** A bucket as registry:2 leaves it. */
  async function filledBucket(names: readonly Repository[]): Promise<string> {
    const bucket = await rgw.newBucket();
    const put = (Key: string, Body: string | Buffer): Promise<unknown> =>
      rgw.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }));
    await put(blobPath(manifest.digest), manifest.bytes);
    for (let from = 0; from < names.length; from += 20) {
      const some = names.slice(from, from + 20);
      await Promise.all(some.map((name) => put(revisionLinkPath(name, manifest.digest), manifest.digest)));
    }
    return bucket;
  }

  /** A replica over the bucket, at this endpoint, that runs no job unless `jobs` says so. */
  async function replica(bucket: string, regionendpoint: string, jobs: Settings = {}): Promise<Mirror> {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    const never = { schedule: 'never' };
    const scheduler = { expire: never, evict: never, reindex: never, sweep: never, scrub: never, ...jobs };
    const mirror = cleanup.use(
      await startMirror({
        config: { storage: { s3: rgw.settings(bucket, { regionendpoint }) }, scheduler },
        proxy: { spool: { directory: join(folder.path, 'spool') } },
      }),
    );
    const owned = cleanup.move();
    return { ...mirror, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  async function reindex(bucket: string): Promise<void> {
    await using mirror = await replica(bucket, rgw.regionendpoint, { reindex: { schedule: '1s' } });
    await until(
      async () => (await metric(mirror.cistern, 'cistern_job_runs_total', { name: 'reindex' })) > 0,
      patience(),
    );
  }

  async function catalogue(mirror: Mirror, query = '?n=1000'): Promise<readonly string[]> {
    const answer = await fetch(mirror.url(`_catalog${query}`));
    expect(answer.status).toBe(200);
    return ((await answer.json()) as { repositories: string[] }).repositories;
  }

  it('with 400 repositories is served from the list that a job wrote, and what replicas added since', async () => {
    const bucket = await filledBucket(many);
    await reindex(bucket);
    await using counter = await S3Counter.start(rgw.regionendpoint);
    await using mirror = await replica(bucket, counter.url);
    const listed = async (query?: string): Promise<readonly string[]> => {
      counter.requests.length = 0;
      const found = await catalogue(mirror, query);
      expect(counter.lists()).toBeLessThanOrEqual(fewLists);
      return found;
    };
    expect(await listed()).toEqual(many);
    expect(await listed('?n=3&last=team-1/app-1')).toEqual(many.slice(11, 14));
    await using other = await replica(bucket, rgw.regionendpoint);
    other.upstream.addManifest('new/app', manifest, 'v1');
    expect((await fetch(other.url('new/app/manifests/v1'))).status).toBe(200);
    expect(await listed()).toEqual(['new/app', ...many]);
  });

  it('before any job ran, is looked for once for all clients that ask at the same time', async () => {
    await using counter = await S3Counter.start(rgw.regionendpoint);
    await using mirror = await replica(await filledBucket(few), counter.url);
    counter.requests.length = 0;
    expect(await catalogue(mirror)).toEqual(few);
    const once = counter.lists();
    const gate = Promise.withResolvers<void>();
    counter.requests.length = 0;
    counter.hold = () => gate.promise;
    const clients = Array.from({ length: 8 }, () => catalogue(mirror));
    const asking = (): Promise<number> =>
      metric(mirror.cistern, 'registry_http_in_flight_requests', { handler: 'catalog' });
    await until(async () => (await asking()) === clients.length, patience());
    gate.resolve();
    for (const found of await Promise.all(clients)) expect(found).toEqual(few);
    expect(counter.lists()).toBe(once);
  });

  it('is not looked for any more when the last client has left', async () => {
    await using counter = await S3Counter.start(rgw.regionendpoint);
    await using mirror = await replica(await filledBucket(few), counter.url);
    counter.requests.length = 0;
    const endless = Promise.withResolvers<void>();
    counter.hold = () => (counter.lists() < 20 ? undefined : endless.promise);
    const leaving = new AbortController();
    const asked = fetch(mirror.url('_catalog?n=1000'), { signal: leaving.signal });
    await expect.poll(() => counter.lists()).toBe(20);
    leaving.abort();
    await expect(asked).rejects.toThrow('aborted');
    await expect.poll(() => counter.left).toBe(1);
    counter.hold = () => undefined;
    expect(await catalogue(mirror)).toEqual(few);
  });
});
