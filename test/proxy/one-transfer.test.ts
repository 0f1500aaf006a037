import { existsSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { blobPath } from '../../src/storage/layout.js';
import { receive, SlowClient } from '../fakes/slow-client.js';
import { blobOf, metric, type Mirror, sha256, startMirror } from '../parts/mirror.js';

const size = 16 * 1024 * 1024;
/** Slow enough that all clients come while the transfer runs. */
const bytesPerSecond = 5_000_000;

describe('one transfer, however many want a blob', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await startMirror({ upstream: { bytesPerSecond } });
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  /** Reads and compares with as little work as possible: this process is the upstream too. */
  async function matchesAll(from: string, expected: Buffer): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    get(from, { agent: false }, resolve).once('error', reject);
    let at = 0;
    for await (const chunk of (await promise) as AsyncIterable<Buffer>) {
      if (!chunk.equals(expected.subarray(at, at + chunk.byteLength))) return false;
      at += chunk.byteLength;
    }
    return at === expected.byteLength;
  }

  it('gives 24 clients a cold blob with one request, beside a slow one', async () => {
    const { upstream, cistern, url } = mirror;
    const blob = blobOf(size, 'herd');
    const path = `herd/blobs/${blob.digest}`;
    upstream.addBlob('herd', blob);

    using slow = new SlowClient(url(path), { bytesPerSecond: 100 * 1024 });
    const right: boolean[] = [];
    await Promise.all(
      Array.from({ length: 24 }, async () => right.push(await matchesAll(url(path), blob.bytes))),
    );
    expect(right).toEqual(Array.from({ length: 24 }, () => true));
    expect(upstream.asked({ path: `/v2/${path}` })).toEqual([
      expect.objectContaining({ method: 'GET', state: 'complete' }),
    ]);
    expect(upstream.bytesSent({ path: `/v2/${path}` })).toBe(size);
    expect(await metric(cistern, 'registry_proxy_pulled_bytes_total', { type: 'blob' })).toBe(size);
    // They did not wait for it.
    expect(slow.bytes).toBeLessThan(size / 4);
  });

  it('asks once where clients come at every moment of a transfer and of its end', async () => {
    const { upstream, url } = mirror;
    const blob = blobOf(2_000_000, 'stream of clients');
    const path = `stream/blobs/${blob.digest}`;
    upstream.addBlob('stream', blob);
    const workers = Array.from({ length: 8 }, async () => {
      for (let times = 0; times < 12; times += 1) {
        const result = await receive(url(path));
        expect(result).toMatchObject({ end: 'complete', sha256: sha256(blob.bytes) });
      }
    });
    await Promise.all(workers);
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
  });

  it('asks once where a client comes just when the content becomes visible, before its link', async () => {
    const { upstream, cistern, url } = mirror;
    for (let n = 0; n < 30; n += 1) {
      const blob = blobOf(1000, `visible ${n}`);
      const path = `visible/${n}/blobs/${blob.digest}`;
      const data = join(cistern.root, blobPath(blob.digest));
      upstream.addBlob(`visible/${n}`, blob);
      const first = fetch(url(path));
      while (!existsSync(data)) await immediate();
      const second = await fetch(url(path));
      expect(sha256(Buffer.from(await second.arrayBuffer()))).toBe(sha256(blob.bytes));
      await (await first).arrayBuffer();
      expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
    }
  });

  it('gives a manifest to many after one request for it', async () => {
    const { upstream, url } = mirror;
    const manifest = { ...blobOf(1, 'x'), mediaType: 'application/vnd.oci.image.index.v1+json' };
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: manifest.mediaType, manifests: [] }),
    );
    const content = {
      ...manifest,
      bytes,
      size: bytes.byteLength,
      digest: `sha256:${sha256(bytes)}` as typeof manifest.digest,
    };
    upstream.addManifest('many', content, 'v1');
    const path = `many/manifests/${content.digest}`;
    const all = await Promise.all(Array.from({ length: 100 }, () => receive(url(path))));
    for (const result of all) expect(result).toMatchObject({ status: 200, sha256: sha256(bytes) });
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
  });
});
