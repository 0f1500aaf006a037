import { describe, expect, it } from 'vitest';
import { lacks } from '../parts/debian.js';
import { startDockerRegistry } from '../parts/docker-registry.js';
import { contentOf, imageOf, indexOf, layerOf, randomLayer } from '../parts/image.js';
import { pushImage } from '../parts/push.js';
import { randomBytes } from '../parts/random-bytes.js';
import { temporaryFolder } from '../parts/folder.js';
import { TokenServer } from '../parts/token-server.js';
import { FakeUpstream } from './fake-upstream.js';
import type { Fault } from './fault.js';
import { LinkProxy } from './link-proxy.js';
import { receive, SlowClient } from './slow-client.js';

const blob = contentOf('application/octet-stream', randomBytes(100_000, 'blob'));
const hex = blob.digest.slice('sha256:'.length);
const path = `/v2/app/blobs/${blob.digest}`;

async function withBlob(fault?: Fault): Promise<FakeUpstream> {
  const upstream = await FakeUpstream.start();
  upstream.addBlob('app', blob);
  if (fault !== undefined) upstream.fault({ path }, fault);
  return upstream;
}

describe('a fake upstream', () => {
  it('serves what it was given, and remembers who asked', async () => {
    await using upstream = await withBlob();
    const received = await receive(upstream.url + path, { headers: { 'x-who': 'me' } });
    expect(received).toMatchObject({ status: 200, bytes: blob.size, sha256: hex, end: 'complete' });
    await upstream.until(() => upstream.requests[0]?.state === 'complete');
    expect(upstream.asked({ method: 'GET', path })).toMatchObject([{ status: 200, bodyBytes: blob.size }]);
    expect(upstream.requests[0]?.headers['x-who']).toBe('me');
  });

  it('serves ranges, and refuses those beyond the end', async () => {
    await using upstream = await withBlob();
    const rest = await receive(upstream.url + path, { headers: { range: 'bytes=99990-' } });
    expect(rest).toMatchObject({ status: 206, bytes: 10 });
    expect(rest.headers['content-range']).toBe('bytes 99990-99999/100000');
    expect(await receive(upstream.url + path, { headers: { range: 'bytes=100000-' } })).toMatchObject({
      status: 416,
    });
  });

  it.each<[string, Fault, object]>([
    ['closes in the middle', { cutAt: 40_000 }, { bytes: 40_000, end: 'cut' }],
    ['closes before the first byte', { cutAt: 0 }, { bytes: 0, end: 'cut' }],
    ['resets in the middle', { cutAt: 40_000, cut: 'reset' }, { end: 'reset' }],
    ['closes a chunked answer', { cutAt: 40_000, chunked: true }, { bytes: 40_000, end: 'cut' }],
    ['promises too much', { contentLength: 100_001 }, { bytes: 100_000, end: 'cut' }],
    ['promises too little', { contentLength: 99_999 }, { bytes: 99_999, end: 'complete' }],
    ['ignores ranges', { ignoreRange: true }, { status: 200, bytes: 100_000 }],
    ['answers otherwise', { answer: { status: 429, headers: { 'retry-after': '7' } } }, { status: 429 }],
    ['redirects', { redirect: 'http://127.0.0.1:9/x' }, { status: 307 }],
  ])('%s', async (_title, fault, wanted) => {
    await using upstream = await withBlob(fault);
    const received = await receive(upstream.url + path, { headers: { range: 'bytes=0-' } });
    expect(received).toMatchObject(wanted);
  });

  it('turns over the one byte that it is told to', async () => {
    await using upstream = await withBlob({ corruptAt: 70_000 });
    const bytes = Buffer.from(await (await fetch(upstream.url + path)).arrayBuffer());
    const wrong = [...bytes.keys()].filter((at) => bytes[at] !== blob.bytes[at]);
    expect(wrong).toEqual([70_000]);
  });

  it('stalls until it is let go on', async () => {
    const gate = Promise.withResolvers<void>();
    await using upstream = await withBlob({ stallAt: 30_000, until: gate.promise });
    using client = new SlowClient(upstream.url + path);
    await client.received(30_000);
    expect(upstream.requests[0]).toMatchObject({ bodyBytes: 30_000, state: 'open' });
    gate.resolve();
    expect(await client.finished).toMatchObject({ sha256: hex, end: 'complete' });
  });

  it('hangs until the client leaves', async () => {
    await using upstream = await withBlob({ hang: true });
    const leave = new AbortController();
    const asked = fetch(upstream.url + path, { signal: leave.signal });
    await upstream.until(() => upstream.requests.length === 1);
    leave.abort();
    await expect(asked).rejects.toThrow('aborted');
    await upstream.until(() => upstream.requests[0]?.state === 'cut');
  });

  it('spoils only the requests that the rule names', async () => {
    await using upstream = await withBlob();
    upstream.fault({ method: 'GET', path: /blobs/, nth: 2 }, { answer: { status: 503 } });
    const seen: number[] = [];
    for (let i = 0; i < 3; i += 1) seen.push((await receive(upstream.url + path)).status);
    expect(seen).toEqual([200, 503, 200]);
  });

  it('shares its bandwidth among all who ask', async () => {
    await using upstream = await FakeUpstream.start({ bytesPerSecond: 1_000_000 });
    upstream.addBlob('app', blob);
    const began = performance.now();
    await Promise.all([receive(upstream.url + path), receive(upstream.url + path)]);
    expect(performance.now() - began).toBeGreaterThan(180);
    expect(upstream.bytesSent({ path })).toBe(200_000);
  });

  it('pages its tags and referrers', async () => {
    await using upstream = await FakeUpstream.start({ pageSize: 2 });
    const image = imageOf({ layers: [layerOf({ a: 'b' })] });
    for (const tag of ['a', 'b', 'c']) upstream.addImage('app', tag, image);
    const first = await fetch(`${upstream.url}/v2/app/tags/list`);
    expect(await first.json()).toEqual({ name: 'app', tags: ['a', 'b'] });
    const next = /<(.*)>/.exec(first.headers.get('link') ?? '')?.[1];
    const second = await fetch(`${upstream.url}${next}`);
    expect(await second.json()).toEqual({ name: 'app', tags: ['c'] });
    expect(second.headers.get('link')).toBeNull();
    const signature = imageOf({ layers: [], manifest: { subject: image.manifest, artifactType: 'x/y' } });
    upstream.addImage('app', 'signature', signature);
    const referrers = await fetch(`${upstream.url}/v2/app/referrers/${image.manifest.digest}`);
    expect(await referrers.json()).toMatchObject({
      manifests: [{ digest: signature.manifest.digest, artifactType: 'x/y' }],
    });
  });

  it('asks for a token, and knows a good one', async () => {
    await using tokens = await TokenServer.start({ anonymous: ['app'] });
    await using upstream = await FakeUpstream.start({ tokens });
    upstream.addBlob('app', blob);
    const refused = await fetch(upstream.url + path);
    expect(refused.status).toBe(401);
    expect(refused.headers.get('www-authenticate')).toContain('scope="repository:app:pull"');
    const answer = await fetch(`${tokens.realm}?service=s&scope=repository:app:pull`);
    const { token } = (await answer.json()) as { token: string };
    const authorization = `Bearer ${token}`;
    expect(await receive(upstream.url + path, { headers: { authorization } })).toMatchObject({ sha256: hex });
    tokens.revokeAll();
    expect(await receive(upstream.url + path, { headers: { authorization } })).toMatchObject({ status: 401 });
  });

  it('goes down and comes back on its port', async () => {
    await using upstream = await withBlob();
    await upstream.down();
    await expect(receive(upstream.url + path)).rejects.toThrow('ECONNREFUSED');
    await upstream.up();
    expect(await receive(upstream.url + path)).toMatchObject({ sha256: hex });
  });
});

describe('a slow client', () => {
  it('holds the server up while it does not read, and finishes when it does', async () => {
    const big = contentOf('application/octet-stream', randomBytes(64_000_000, 'big'));
    await using upstream = await FakeUpstream.start();
    upstream.addBlob('app', big);
    using client = new SlowClient(`${upstream.url}/v2/app/blobs/${big.digest}`, { pauseAfter: 10_000 });
    await client.received(10_000);
    expect(client.bytes).toBe(10_000);
    using other = new SlowClient(`${upstream.url}/v2/app/blobs/${big.digest}`);
    await other.finished;
    expect(upstream.requests[0]?.bodyBytes).toBeLessThan(big.size / 2);
    client.resume();
    expect(await client.finished).toMatchObject({ sha256: big.digest.slice(7), end: 'complete' });
  });

  it('leaves in the middle', async () => {
    await using upstream = await withBlob();
    using client = new SlowClient(upstream.url + path, { pauseAfter: 5_000 });
    await client.received(5_000);
    client.leave();
    expect(await client.finished).toMatchObject({ bytes: 5_000, end: 'left' });
  });
});

describe('a link', () => {
  const headersAndSome = 5_000;

  it.each<[string, object, object]>([
    ['closes', { cutAt: headersAndSome }, { end: 'cut' }],
    ['resets', { cutAt: headersAndSome, cut: 'reset' }, { end: 'reset' }],
    ['corrupts', { corruptAt: headersAndSome }, { end: 'complete', bytes: blob.size }],
  ])('%s the connection that it is told to', async (_title, fault, wanted) => {
    await using upstream = await withBlob();
    await using link = await LinkProxy.start({ target: upstream.url });
    link.inject({ connection: 2, ...fault });
    expect(await receive(link.url + path)).toMatchObject({ sha256: hex, end: 'complete' });
    const spoilt = await receive(link.url + path);
    expect(spoilt).toMatchObject(wanted);
    expect(spoilt.sha256).not.toBe(hex);
    expect(link.connections).toBe(2);
  });

  it('stalls until it is healed', async () => {
    await using upstream = await withBlob();
    await using link = await LinkProxy.start({ target: upstream.url });
    link.inject({ stallAt: headersAndSome });
    using client = new SlowClient(link.url + path);
    await link.until(() => link.bytesDown >= headersAndSome);
    expect(link.bytesDown).toBe(headersAndSome);
    link.heal();
    expect(await client.finished).toMatchObject({ sha256: hex });
  });

  it('goes down and comes back on its port', async () => {
    await using upstream = await withBlob();
    await using link = await LinkProxy.start({ target: upstream.url });
    using client = new SlowClient(link.url + path, { pauseAfter: 100 });
    await client.received(100);
    await link.down();
    client.resume();
    await expect(receive(link.url + path)).rejects.toThrow('ECONNREFUSED');
    await link.up();
    expect(await receive(link.url + path)).toMatchObject({ sha256: hex });
  });
});

describe.skipIf(lacks('docker-registry', 'openssl'))('a token server', () => {
  it('issues tokens that a real registry accepts, for what the user may pull', async () => {
    await using folder = await temporaryFolder();
    await using tokens = await TokenServer.start({
      users: { alice: { password: 'secret', repositories: ['team/app'] } },
    });
    await using registry = await startDockerRegistry({ token: await tokens.registryAuth(folder.path) });
    const image = indexOf([imageOf({ layers: [randomLayer(1000, 'x')] })]);
    const target = { url: registry.url, repository: 'team/app' };
    await pushImage({ ...target, authorization: tokens.issue('team/app') }, 'v1', image);
    const pull = async (authorization: string | undefined) => {
      const answer = await fetch(`${tokens.realm}?service=test-registry&scope=repository:team/app:pull`, {
        headers: authorization === undefined ? {} : { authorization },
      });
      const { token } = (await answer.json()) as { token: string };
      const headers = { authorization: `Bearer ${token}`, accept: image.manifest.mediaType };
      return (await fetch(`${registry.url}/v2/team/app/manifests/v1`, { headers })).status;
    };
    expect(await pull(`Basic ${Buffer.from('alice:secret').toString('base64')}`)).toBe(200);
    expect(await pull(undefined)).toBe(401);
    expect(tokens.requests.at(-1)).toMatchObject({ scopes: ['repository:team/app:pull'] });
  });
});
