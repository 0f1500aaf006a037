import { join } from 'node:path';
import { DeleteObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { blobPath } from '../../src/storage/layout.js';
import { SlowClient } from '../fakes/slow-client.js';
import { TlsFront } from '../fakes/tls-front.js';
import { converse, repeated, request } from '../fast-lane/conversation.js';
import { cephParts, type CephRgw, startCephRgw } from '../parts/ceph-rgw.js';
import { makeCertificate, readPemPair } from '../parts/certificates.js';
import type { Cistern, Settings } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { startDockerRegistry } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { busyboxImage, randomLayer } from '../parts/image.js';
import { blobOf, metric, type MirrorOptions, sha256, startMirror, untilIdle } from '../parts/mirror.js';
import { patience } from '../parts/patience.js';
import { until } from '../parts/process.js';
import { pushImage } from '../parts/push.js';
import { S3Counter } from '../parts/s3-counter.js';
import { skopeoCopy } from '../parts/skopeo.js';

describe.skipIf(lacks(...cephParts, 'skopeo', 'docker-registry'))('a mirror over a bucket', () => {
  let rgw: CephRgw;
  let bucket: string;

  beforeAll(async () => {
    rgw = await startCephRgw();
  });
  afterAll(async () => {
    await rgw?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    bucket = await rgw.newBucket();
  });

  const settings = (regionendpoint = rgw.regionendpoint, more: Settings = {}) =>
    rgw.settings(bucket, { regionendpoint, ...more });

  async function mirror(
    options: MirrorOptions & { endpoint?: string; s3?: Settings; redirect?: boolean } = {},
  ) {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    const { endpoint, s3, redirect = true, ...rest } = options;
    const started = cleanup.use(
      await startMirror({
        ...rest,
        config: { storage: { s3: settings(endpoint, s3), redirect: { disable: !redirect } } },
        proxy: { spool: { directory: join(folder.path, 'spool') }, ...rest.proxy },
      }),
    );
    const owned = cleanup.move();
    return { ...started, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  }

  async function keys(): Promise<string[]> {
    const { Contents = [] } = await rgw.client.send(new ListObjectsV2Command({ Bucket: bucket }));
    return Contents.map(({ Key = '' }) => Key);
  }

  async function bytesAt(url: string): Promise<{ status: number; digest: string }> {
    const response = await fetch(url);
    return { status: response.status, digest: `sha256:${sha256(await response.bytes())}` };
  }

  it('fills from the upstream, and serves everything without it', async () => {
    const image = busyboxImage({ layers: [randomLayer(12_000_000, 'large')] });
    {
      await using first = await mirror();
      first.upstream.addImage('team/app', 'v1', image);
      await skopeoCopy(`${first.cistern.host}/team/app:v1`);
      await untilIdle(first.cistern);
      expect(
        await metric(first.cistern, 'registry_storage_action_seconds_count', { driver: 's3aws' }),
      ).toBeGreaterThan(0);
    }
    await using second = await mirror();
    await second.upstream.down();
    await skopeoCopy(`${second.cistern.host}/team/app:v1`);
    const response = await fetch(second.url(`team/app/blobs/${image.config.digest}`), { redirect: 'manual' });
    expect(response.status).toBe(307);
    const { Uploads = [] } = await rgw.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    expect(Uploads).toEqual([]);
  });

  it('asks the bucket for nothing once it knows a blob, and sends clients there', async () => {
    await using counter = await S3Counter.start(rgw.regionendpoint);
    await using running = await mirror({ endpoint: counter.url });
    const image = busyboxImage();
    running.upstream.addImage('team/app', 'v1', image);
    await skopeoCopy(`${running.cistern.host}/team/app:v1`);
    await untilIdle(running.cistern);
    const blob = running.url(`team/app/blobs/${image.config.digest}`);
    await fetch(blob, { redirect: 'manual' });
    counter.requests.length = 0;
    const redirected = await fetch(blob, { redirect: 'manual' });
    expect(redirected.status).toBe(307);
    expect(redirected.headers.get('docker-content-digest')).toBe(image.config.digest);
    expect(redirected.headers.get('cache-control')).toBe('no-store');
    const head = await fetch(blob, { method: 'HEAD', redirect: 'manual' });
    expect(head.status).toBe(200);
    expect(head.headers.get('content-length')).toBe(String(image.config.size));
    const manifest = await fetch(running.url(`team/app/manifests/${image.manifest.digest}`));
    expect(manifest.status).toBe(200);
    expect(counter.ofContent()).toEqual([]);
    expect(await bytesAt(redirected.headers.get('location') ?? '')).toEqual({
      status: 200,
      digest: image.config.digest,
    });
    expect(running.cistern.log()).not.toContain('X-Amz-Signature');
  });

  it('sends the same request to the same place again, and counts each', async () => {
    await using running = await mirror();
    const image = busyboxImage();
    running.upstream.addImage('team/app', 'v1', image);
    await skopeoCopy(`${running.cistern.host}/team/app:v1`);
    await untilIdle(running.cistern);
    const redirects = { handler: 'blob', code: '307' };
    const before = await metric(running.cistern, 'registry_http_requests_total', redirects);
    const times = 20;
    const { origin, pathname } = new URL(running.url(`team/app/blobs/${image.config.digest}`));
    const answers = await converse(origin, repeated(request(pathname), times));
    expect(answers.match(/^HTTP\/1\.1 307 Temporary Redirect\r$/gm)).toHaveLength(times);
    const [place, ...others] = new Set(answers.match(/^Location: \S+/gm));
    expect(others).toEqual([]);
    expect(await bytesAt(place?.slice('Location: '.length) ?? '')).toEqual({
      status: 200,
      digest: image.config.digest,
    });
    expect(new Set(answers.match(/^X-Request-Id: \S+/gm)).size).toBe(times);
    await expect
      .poll(() => metric(running.cistern, 'registry_http_requests_total', redirects))
      .toBe(before + times);
    expect(running.cistern.log()).not.toContain('X-Amz-Signature');
  });

  it('asks for a streamed blob once, and for a manifest that it has forgotten twice', async () => {
    await using counter = await S3Counter.start(rgw.regionendpoint);
    const image = busyboxImage();
    {
      await using running = await mirror({ endpoint: counter.url, redirect: false });
      running.upstream.addImage('team/app', 'v1', image);
      await skopeoCopy(`${running.cistern.host}/team/app:v1`);
      await untilIdle(running.cistern);
      const blob = running.url(`team/app/blobs/${image.config.digest}`);
      await bytesAt(blob);
      counter.requests.length = 0;
      expect(await bytesAt(blob)).toEqual({ status: 200, digest: image.config.digest });
      expect(counter.ofContent().map(({ method }) => method)).toEqual(['GET']);
    }
    await using fresh = await mirror({ endpoint: counter.url, redirect: false });
    counter.requests.length = 0;
    const manifest = fresh.url(`team/app/manifests/${image.manifest.digest}`);
    expect((await bytesAt(manifest)).digest).toBe(image.manifest.digest);
    expect(counter.ofContent().map(({ method }) => method)).toEqual(['GET', 'GET']); // the link and the content
    expect((await bytesAt(manifest)).status).toBe(200);
    expect(counter.ofContent()).toHaveLength(2);
  });

  it('streams a large blob from its own copy: of what it fetched, and of what it has read once', async () => {
    await using counter = await S3Counter.start(rgw.regionendpoint);
    const blob = blobOf(3_000_000, 'copied');
    const whole = { status: 200, digest: blob.digest };
    const isHit = { result: 'hit' };
    {
      await using running = await mirror({ endpoint: counter.url, redirect: false });
      running.upstream.addBlob('team/app', blob);
      const url = running.url(`team/app/blobs/${blob.digest}`);
      expect(await bytesAt(url)).toEqual(whole);
      await untilIdle(running.cistern);
      await running.upstream.down();
      counter.requests.length = 0;
      expect(await bytesAt(url)).toEqual(whole);
      expect(await metric(running.cistern, 'cistern_local_copy_reads_total', isHit)).toBe(1);
    }
    expect(counter.ofContent()).toEqual([]);
    await using fresh = await mirror({ endpoint: counter.url, redirect: false });
    const url = fresh.url(`team/app/blobs/${blob.digest}`);
    expect(await bytesAt(url)).toEqual(whole);
    await expect.poll(() => metric(fresh.cistern, 'cistern_local_copies_bytes')).toBe(blob.size);
    counter.requests.length = 0;
    expect(await bytesAt(url)).toEqual(whole);
    const part = await fetch(url, { headers: { range: 'bytes=-1000' } });
    expect(part.status).toBe(206);
    expect(Buffer.from(await part.arrayBuffer()).equals(blob.bytes.subarray(-1000))).toBe(true);
    expect(counter.ofContent()).toEqual([]);
    expect(await metric(fresh.cistern, 'cistern_local_copy_reads_total', isHit)).toBe(2);
  });

  it.each([true, false])('fetches again what is gone from the bucket (redirects: %s)', async (redirect) => {
    await using running = await mirror({ redirect });
    const blob = blobOf(300_000, 'gone');
    running.upstream.addBlob('team/app', blob);
    const url = running.url(`team/app/blobs/${blob.digest}`);
    expect((await bytesAt(url)).digest).toBe(blob.digest);
    await untilIdle(running.cistern);
    if (!redirect) await bytesAt(url); // so that its descriptor is known
    await rgw.client.send(new DeleteObjectCommand({ Bucket: bucket, Key: blobPath(blob.digest) }));
    expect(await bytesAt(url)).toEqual({ status: 200, digest: blob.digest });
    await untilIdle(running.cistern);
    expect(await keys()).toContain(blobPath(blob.digest));
  });

  it.skipIf(lacks('openssl'))(
    'works over TLS: what it stored reaches clients whole, slow ones too',
    async () => {
      await using folder = await temporaryFolder();
      const authority = await makeCertificate(folder.path, 'authority');
      const own = await makeCertificate(folder.path, 'gateway', authority);
      const pair = await readPemPair(own);
      await using front = await TlsFront.start({ target: rgw.regionendpoint, ...pair });
      const trusting = {
        endpoint: front.url,
        s3: { secure: true, ca: authority.certificate, localcopies: 0 },
        redirect: false,
      };
      const image = busyboxImage({ layers: [randomLayer(24_000_000, 'over tls')] });
      const [{ digest, size } = image.config] = image.layers;
      {
        await using first = await mirror(trusting);
        first.upstream.addImage('team/app', 'v1', image);
        await skopeoCopy(`${first.cistern.host}/team/app:v1`);
        await untilIdle(first.cistern);
      }
      await using second = await mirror(trusting);
      await second.upstream.down();
      await skopeoCopy(`${second.cistern.host}/team/app:v1`);
      const clients = [undefined, 40_000_000, 10_000_000].map((bytesPerSecond) => {
        return new SlowClient(
          second.url(`team/app/blobs/${digest}`),
          bytesPerSecond === undefined ? {} : { bytesPerSecond },
        ).finished;
      });
      const whole = { status: 200, bytes: size, end: 'complete', sha256: digest.slice('sha256:'.length) };
      expect(await Promise.all(clients)).toMatchObject([whole, whole, whole]);
    },
  );

  it('leaves nothing of content that is not what its digest says', async () => {
    await using counter = await S3Counter.start(rgw.regionendpoint);
    await using running = await mirror({ endpoint: counter.url, upstream: { bytesPerSecond: 12_000_000 } });
    const blob = blobOf(12_000_000, 'corrupt');
    running.upstream.addBlob('team/app', blob);
    // The upstream holds back the corrupt end until the first part is on its way to the bucket.
    const partSent = until(() => counter.parts().length > 0, patience());
    running.upstream.fault(
      { path: /blobs/ },
      { stallAt: 10_000_000, until: partSent, corruptAt: 11_000_000 },
    );
    await expect(bytesAt(running.url(`team/app/blobs/${blob.digest}`))).rejects.toThrow(/terminated/);
    await partSent;
    await expect.poll(() => running.cistern.log()).toMatch(/blob not stored/);
    expect((await keys()).filter((key) => key.includes('/blobs/'))).toEqual([]);
    const uploads = async (): Promise<unknown> =>
      (await rgw.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? [];
    await expect.poll(uploads).toEqual([]);
  });

  it('brings a client its blob while the gateway is away', async () => {
    await using running = await mirror({ upstream: { bytesPerSecond: 8_000_000 } });
    const during = blobOf(12_000_000, 'during');
    const before = blobOf(100_000, 'before');
    for (const blob of [during, before]) running.upstream.addBlob('team/app', blob);
    try {
      const pulled = bytesAt(running.url(`team/app/blobs/${during.digest}`));
      await running.upstream.until(() => running.upstream.bytesSent() > 6_000_000);
      await rgw.stopGateway();
      expect(await pulled).toEqual({ status: 200, digest: during.digest });
      expect(await bytesAt(running.url(`team/app/blobs/${before.digest}`))).toEqual({
        status: 200,
        digest: before.digest,
      });
    } finally {
      await rgw.startGateway();
    }
    await untilIdle(running.cistern);
    expect(await bytesAt(running.url(`team/app/blobs/${during.digest}`))).toMatchObject({ status: 200 });
  });

  it('starts while the gateway is away, and is made ready when it is back', async () => {
    await rgw.stopGateway();
    let running: { cistern: Cistern } & AsyncDisposable;
    try {
      running = await mirror();
    } finally {
      await rgw.startGateway();
    }
    await using _ = running;
    await expect.poll(() => running.cistern.log()).toMatch(/the storage can be used now/);
    expect(await keys()).toContain('cistern/cluster.json');
  });

  it("takes registry:2's bucket as it is, and gives it back", async () => {
    const theirs = busyboxImage({ layers: [randomLayer(6_000_000, 'theirs')] });
    const ours = busyboxImage({ layers: [randomLayer(6_000_000, 'ours')] });
    {
      await using registry = await startDockerRegistry({ s3: settings() });
      await pushImage({ url: registry.url, repository: 'team/theirs' }, 'v1', theirs);
    }
    {
      await using running = await mirror();
      running.upstream.addImage('team/ours', 'v1', ours);
      await skopeoCopy(`${running.cistern.host}/team/ours:v1`);
      await untilIdle(running.cistern);
      await running.upstream.down();
      await skopeoCopy(`${running.cistern.host}/team/theirs:v1`);
    }
    await using registry = await startDockerRegistry({ s3: settings() });
    await skopeoCopy(`${registry.host}/team/theirs:v1`);
    await skopeoCopy(`${registry.host}/team/ours:v1`);
    expect(registry.accessLog().map(({ status }) => status)).not.toContain(404);
  });
});
