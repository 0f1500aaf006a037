import { get as httpsGet } from 'node:https';
import { describe, expect, it } from 'vitest';
import { SlowClient } from '../fakes/slow-client.js';
import { makeOwnCertificate } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, expectSpecError, filesUnder, startMirror, untilIdle } from '../parts/mirror.js';
import { receivesAll } from '../parts/replicas.js';
import { dial, get, say } from './raw.js';

const MiB = 1024 * 1024;
const large = blobOf(24 * MiB, 'limits');
const small = blobOf(1000, 'small');

function limited(limits: object, proxy: object = {}) {
  return startMirror({ config: { http: { limits } }, proxy: { ...proxy } });
}

describe('http.limits', () => {
  it('requests: one more is told to use the next host, and is served when there is room again', async () => {
    await using mirror = await limited({ requests: 1 });
    mirror.upstream.addBlob('team/app', large);
    const url = mirror.url(`team/app/blobs/${large.digest}`);
    using client = new SlowClient(url, { pauseAfter: MiB });
    await client.received(MiB);
    const refused = await fetch(url);
    expect(refused.headers.get('retry-after')).toBe('2');
    await expectSpecError(refused, 503, 'UNAVAILABLE');
    client.leave();
    await expect.poll(async () => (await fetch(url, { method: 'HEAD' })).status).toBe(200);
  });

  it('rate: an address that asks too often waits, or goes elsewhere; others do not', async () => {
    await using mirror = await limited({ rate: 1, burst: 3 });
    const { url } = mirror.cistern;
    for (let count = 0; count < 3; count += 1) expect(await say(url, get('/v2/'))).toMatch(/^HTTP\/1.1 200 /);
    expect(await say(url, get('/v2/'))).toMatch(/^HTTP\/1.1 503 [^]*Retry-After: 1\r\n[^]*"UNAVAILABLE"/);
    expect(await say(url, get('/v2/ghcr.io/o/i/manifests/v1'))).toMatch(
      /^HTTP\/1.1 429 [^]*"TOOMANYREQUESTS"/,
    );
    expect(await say(url, get('/v2/'), '127.0.0.2')).toMatch(/^HTTP\/1.1 200 /);
  });

  it('headersize and urlsize: longer ones are told so', async () => {
    await using mirror = await limited({ headersize: '8KiB', urlsize: '1KiB' });
    const { url } = mirror.cistern;
    const flood = Array.from({ length: 200 }, (_, index) => `X-Flood-${index}: ${'x'.repeat(50)}`);
    expect(await say(url, get('/v2/', flood.slice(0, 50)))).toMatch(/^HTTP\/1.1 200 /);
    expect(await say(url, get('/v2/', flood))).toMatch(/^HTTP\/1.1 431 [^]*"errors"/);
    expect(await say(url, get(`/v2/${'a'.repeat(2_000)}/tags/list`))).toMatch(
      /^HTTP\/1.1 414 [^]*"URL_TOO_LONG"/,
    );
  });

  it('headertimeout: who does not come to an end is cut, also with a body that nobody wants', async () => {
    await using mirror = await limited({ headertimeout: '1s' });
    const { url } = mirror.cistern;
    using silent = await dial(url);
    using slow = await dial(url);
    slow.socket.write('GET /v2/ HTTP/1.1\r\nHost: mi');
    const drip = setInterval(() => slow.socket.write('r'), 100);
    using body = await dial(url);
    body.socket.write('GET /v2/ HTTP/1.1\r\nHost: mirror\r\nContent-Length: 1000000\r\n\r\nx');
    expect(await slow.ended).toMatch(/^HTTP\/1.1 408 /);
    clearInterval(drip);
    expect(await silent.ended).toMatch(/^HTTP\/1.1 408 |^$/);
    expect(await body.ended).toMatch(/^HTTP\/1.1 (?:200|408) /);
  });

  it('readtimeout: a client that takes nothing is cut, and told of', async () => {
    await using mirror = await limited({ readtimeout: '1s' });
    mirror.upstream.addBlob('team/app', large);
    using client = new SlowClient(mirror.url(`team/app/blobs/${large.digest}`), { pauseAfter: MiB });
    await client.received(MiB);
    await expect.poll(() => mirror.cistern.log()).toContain('the client took nothing for 1 s');
    client.resume();
    expect(await client.finished).toMatchObject({ end: expect.stringMatching(/cut|reset/) as string });
  });

  it('idletimeout: a connection without a request is closed', async () => {
    await using mirror = await limited({ idletimeout: '1s' });
    using idle = await dial(mirror.cistern.url);
    idle.socket.write('GET /v2/ HTTP/1.1\r\nHost: mirror\r\n\r\n');
    expect(await idle.ended).toMatch(/^HTTP\/1.1 200 /);
  });

  it('connections: more are closed, until there is room again', async () => {
    await using mirror = await limited({ connections: 3 });
    const { url } = mirror.cistern;
    const open = [await dial(url), await dial(url), await dial(url, '127.0.0.2')];
    expect(await say(url, get('/v2/'), '127.0.0.3')).toBe('');
    await expect.poll(() => mirror.cistern.log()).toContain('the mirror closes further ones at once');
    for (const connection of open) connection[Symbol.dispose]();
    await expect.poll(() => say(url, get('/v2/'))).toMatch(/^HTTP\/1.1 200 /);
  });

  it('connections: an address cannot take the share of another', async () => {
    await using mirror = await limited({ connections: 6 });
    const { url } = mirror.cistern;
    using open = new DisposableStack();
    for (let count = 0; count < 3; count += 1) open.use(await dial(url));
    expect(await say(url, get('/v2/'))).toBe('');
    expect(await say(url, get('/v2/'), '127.0.0.2')).toMatch(/^HTTP\/1.1 200 /);
    await expect.poll(() => mirror.cistern.log()).toContain('"address":"127.0.0.1"');
  });

  it('connections: a trusted proxy may take the shares of all', async () => {
    const http = { limits: { connections: 6 }, trustedproxies: ['127.0.0.1'] };
    await using mirror = await startMirror({ config: { http } });
    const { url } = mirror.cistern;
    using open = new DisposableStack();
    for (let count = 0; count < 5; count += 1) open.use(await dial(url));
    expect(await say(url, get('/v2/'))).toMatch(/^HTTP\/1.1 200 /);
  });
});

describe.skipIf(lacks('openssl'))('http.limits over TLS', () => {
  it('connections: an address gets its share back when its connections close', async () => {
    await using folder = await temporaryFolder();
    const tls = await makeOwnCertificate(folder.path, 'mirror');
    await using mirror = await startMirror({ config: { http: { tls, limits: { connections: 1 } } } });
    const ask = async (): Promise<number | undefined> => {
      const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
      httpsGet(mirror.url(''), { agent: false, rejectUnauthorized: false }, (response) => {
        response.resume().once('close', () => resolve(response.statusCode));
      }).once('error', reject);
      return promise;
    };
    for (let count = 0; count < 5; count += 1) await expect.poll(() => ask().catch(String)).toBe(200);
  });
});

describe('limits of what is fetched', () => {
  it('maxtransfers: one more is told to use the next host, and those that run go on', async () => {
    await using mirror = await limited({}, { maxtransfers: 1 });
    const stalled = Promise.withResolvers<void>();
    for (const blob of [large, small]) mirror.upstream.addBlob('team/app', blob);
    mirror.upstream.fault({ path: new RegExp(large.digest) }, { stallAt: MiB, until: stalled.promise });
    const url = mirror.url(`team/app/blobs/${large.digest}`);
    using client = new SlowClient(url);
    await client.received(1);
    const refused = await fetch(mirror.url(`team/app/blobs/${small.digest}`));
    expect(refused.headers.get('retry-after')).toBe('5');
    await expectSpecError(refused, 503, 'UNAVAILABLE');
    stalled.resolve();
    expect(await client.finished).toMatchObject({ end: 'complete', bytes: large.bytes.byteLength });
    await untilIdle(mirror.cistern);
    expect(await receivesAll(mirror.url(`team/app/blobs/${small.digest}`), small.bytes)).toBe(true);
  });

  it.each(['declared', 'not declared'])('maxblobsize: a larger blob, %s so, is not stored', async (how) => {
    await using mirror = await limited({}, { maxblobsize: '1MiB' });
    for (const blob of [large, small]) mirror.upstream.addBlob('team/app', blob);
    if (how !== 'declared') mirror.upstream.fault({ path: new RegExp(large.digest) }, { chunked: true });
    const answer = await fetch(mirror.url(`team/app/blobs/${large.digest}`));
    // Of a size that nobody declared the beginning may be on its way already.
    const received = await answer.arrayBuffer().catch(() => 'cut');
    expect([answer.status, received === 'cut']).toEqual(how === 'declared' ? [503, false] : [200, true]);
    await untilIdle(mirror.cistern);
    await expect.poll(() => mirror.cistern.log()).toContain('larger than proxy.maxblobsize allows');
    expect(await receivesAll(mirror.url(`team/app/blobs/${small.digest}`), small.bytes)).toBe(true);
    await untilIdle(mirror.cistern);
    const stored = await filesUnder(`${mirror.cistern.root}/docker/registry/v2/blobs`);
    expect(stored).toEqual([expect.stringContaining(small.digest.slice(7))]);
    expect(mirror.upstream.requests.filter(({ path }) => path.includes(large.digest)).length).toBe(1);
  });
});

it('what is answered from memory is not counted', async () => {
  await using mirror = await limited({ requests: 1 });
  mirror.upstream.addImage('team/app', 'v1', imageOf({ layers: [randomLayer(100, 'counted')] }));
  const url = mirror.url('team/app/manifests/v1');
  expect((await fetch(url)).status).toBe(200);
  const answers = await Promise.all(Array.from({ length: 50 }, () => fetch(url)));
  expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => 200));
});
