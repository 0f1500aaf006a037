import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { receive, SlowClient } from '../fakes/slow-client.js';
import {
  blobOf,
  metric,
  type Mirror,
  sha256,
  soundStore,
  startMirror,
  untilIdle,
  untilStored,
} from '../parts/mirror.js';

const size = 24 * 1024 * 1024;

describe('rule 5: a slow or vanished client never slows the fill', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await startMirror();
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  it('fills and serves the others while clients take next to nothing', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, 'slow');
    const path = `slow/blobs/${blob.digest}`;
    upstream.addBlob('slow', blob);
    using paused = new SlowClient(url(path), { pauseAfter: 1 });
    using slow = new SlowClient(url(path), { bytesPerSecond: 100 * 1024 });
    await slow.answered;
    const fast = await Promise.all(Array.from({ length: 24 }, () => receive(url(path))));
    for (const received of fast)
      expect(received).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    await untilStored(cistern, blob.digest);
    await untilIdle(cistern);
    expect(slow.bytes).toBeLessThan(size / 2);
    expect(upstream.bytesSent({ method: 'GET' })).toBe(size);
    // What they have not read yet is still there, although the spool became the stored file.
    paused.resume();
    expect(await paused.finished).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    expect(await metric(cistern, 'cistern_transfer_readers')).toBe(1);
    slow.leave();
    expect((await slow.finished).end).toBe('left');
  });

  it('completes the fill when the only client has left in the middle', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, 'left');
    const path = `left/blobs/${blob.digest}`;
    const go = Promise.withResolvers<void>();
    upstream.addBlob('left', blob);
    upstream.fault({ path: `/v2/${path}` }, { stallAt: 1_000_000, until: go.promise });
    using client = new SlowClient(url(path));
    await client.received(900_000);
    client.leave();
    await client.finished;
    go.resolve();
    await untilStored(cistern, blob.digest);
    await untilIdle(cistern);
    const { blobs, links } = await soundStore(cistern.root);
    expect(blobs).toContain(blob.digest);
    expect(Object.values(links)).toContain(blob.digest);
    expect(await receive(url(path))).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
  });

  it('completes the fill when clients leave before the upstream has answered', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(1000, 'early');
    const path = `early/blobs/${blob.digest}`;
    const go = Promise.withResolvers<void>();
    upstream.addBlob('early', blob);
    upstream.fault({ path: `/v2/${path}` }, { headersAfter: go.promise });
    using client = new SlowClient(url(path));
    await upstream.until(() => upstream.asked({ path: `/v2/${path}` }).length === 1);
    client.leave();
    go.resolve();
    await untilStored(cistern, blob.digest);
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
  });
});
