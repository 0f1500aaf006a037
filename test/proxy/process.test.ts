import { chmod, readdir, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SlowClient } from '../fakes/slow-client.js';
import { makeOwnCertificate } from '../parts/certificates.js';
import { runCistern, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, expectSpecError, sha256, startMirror, untilIdle } from '../parts/mirror.js';
import { freePort } from '../parts/ports.js';
import { until, untilLogged } from '../parts/process.js';
import { patience } from '../parts/patience.js';

const soon = patience;

/** A transfer that goes on only when told, with a client in its middle. */
async function stalledDownload(mirror: Awaited<ReturnType<typeof startMirror>>) {
  const blob = blobOf(2_000_000, 'drain');
  const path = `drain/blobs/${blob.digest}`;
  const go = Promise.withResolvers<void>();
  mirror.upstream.addBlob('drain', blob);
  mirror.upstream.fault({ path: `/v2/${path}` }, { stallAt: 1_000_000, until: go.promise });
  const client = new SlowClient(mirror.url(path));
  await client.received(900_000);
  return { blob, client, go: () => go.resolve() };
}

describe('signals', () => {
  it('SIGTERM: not ready at once, still serving for the delay, then open work to its end', async () => {
    await using mirror = await startMirror({ config: { http: { draindelay: '2s' } } });
    const { cistern, url } = mirror;
    mirror.upstream.addImage('app', 'v1', imageOf({ layers: [randomLayer(100, 'd')] }));
    expect((await fetch(`${cistern.url}/readyz`)).status).toBe(200);
    const download = await stalledDownload(mirror);
    using client = download.client;
    cistern.kill('SIGTERM');
    await until(async () => (await fetch(`${cistern.url}/readyz`)).status === 503, soon());
    expect((await fetch(`${cistern.url}/healthz`)).status).toBe(200);
    expect((await fetch(`${cistern.debugUrl}/readyz`)).status).toBe(503);
    expect((await fetch(url('app/manifests/v1'))).status).toBe(200);
    await until(async () => !(await accepts(cistern.url)), soon());
    download.go();
    expect(await client.finished).toMatchObject({ end: 'complete', sha256: sha256(download.blob.bytes) });
    expect(await cistern.exited).toEqual({ code: 0, signal: null });
    expect(await readdir(join(cistern.root, 'cistern', 'spool')).catch(() => [])).toEqual([]);
  });

  it('a connection kept alive does not hold the end up', async () => {
    await using mirror = await startMirror();
    const { cistern } = mirror;
    const socket = connect(Number(new URL(cistern.url).port), '127.0.0.1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n');
    await new Promise((resolve) => socket.once('data', resolve));
    cistern.kill('SIGTERM');
    await closed;
    expect(await cistern.exited).toEqual({ code: 0, signal: null });
  });

  it('a second SIGTERM ends at once', async () => {
    await using mirror = await startMirror({ config: { http: { draindelay: '60s' } } });
    const { cistern } = mirror;
    const { client } = await stalledDownload(mirror);
    cistern.kill('SIGTERM');
    await untilLogged(cistern, /draining/, soon());
    // One that comes at once with the first (npm passes Ctrl-C on to whom it has reached already) is the same.
    let over = false;
    void cistern.exited.then(() => (over = true));
    await until(() => {
      cistern.kill('SIGTERM');
      return over;
    }, soon());
    expect((await cistern.exited).code).not.toBe(0);
    expect((await client.finished).end).not.toBe('complete');
  });

  it('SIGINT has no delay', async () => {
    await using mirror = await startMirror({ config: { http: { draindelay: '10m' } } });
    mirror.cistern.kill('SIGINT');
    expect(await mirror.cistern.exited).toEqual({ code: 0, signal: null });
  });

  it('what takes longer than draintimeout is cut', async () => {
    await using mirror = await startMirror({ config: { http: { draintimeout: '500ms' } } });
    const { client } = await stalledDownload(mirror);
    mirror.cistern.kill('SIGTERM');
    expect((await client.finished).end).not.toBe('complete');
    expect((await mirror.cistern.exited).code).toBe(0);
  });
});

describe('the start', () => {
  it('is refused for faults of the configuration, all told at once, before a port is open', async () => {
    await using folder = await temporaryFolder();
    const port = await freePort();
    const file = join(folder.path, 'config.yml');
    await writeFile(
      file,
      `version: 0.1
storage: {filesystem: {rootdirectory: ${folder.path}/root}}
http: {addr: 127.0.0.1:${port}, draindelay: soon}
proxy: {remoteurl: "ftp://x", freshness: -1s, upstreems: []}
`,
    );
    const { code, stdout, stderr } = await runCistern(['serve', file]);
    expect(code).toBe(2);
    for (const key of ['http.draindelay', 'proxy.remoteurl', 'proxy.freshness'])
      expect(stderr).toContain(key);
    expect(stdout).toBe('');
    expect(await readdir(folder.path)).toEqual(['config.yml']);
  });

  it('is refused when the unprefixed tree belongs to another registry', async () => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, 'root');
    const config = (host: string) => ({ proxy: { remoteurl: 'http://127.0.0.1:1', host } });
    {
      await using first = await startCistern({ root, config: config('one.test') });
      expect((await fetch(`${first.url}/v2/`)).status).toBe(200);
    }
    const refused = startCistern({ root, config: config('two.test') });
    await expect(refused).rejects.toMatchObject({
      message: expect.stringContaining('one.test') as string,
      cause: { message: 'it ended with 2' },
    });
  });

  it('without upstreams serves a folder that it may only read', async () => {
    await using folder = await temporaryFolder();
    const root = join(folder.path, 'root');
    const image = imageOf({ layers: [randomLayer(1000, 'r')] });
    const layer = image.layers[0]?.digest;
    {
      await using mirror = await startMirror({ root });
      mirror.upstream.addImage('app', 'v1', image);
      for (const path of ['app/manifests/v1', `app/blobs/${layer}`]) {
        expect((await fetch(mirror.url(path))).status).toBe(200);
      }
      await untilIdle(mirror.cistern);
    }
    await chmodAll(root, 0o555, 0o444);
    const before = await readdir(root, { recursive: true });
    try {
      await using cistern = await startCistern({ root });
      const tag = await fetch(`${cistern.url}/v2/app/manifests/v1`);
      expect(tag.headers.get('docker-content-digest')).toBe(image.manifest.digest);
      expect((await fetch(`${cistern.url}/v2/app/blobs/${layer}`)).status).toBe(200);
      expect(await (await fetch(`${cistern.url}/v2/app/tags/list`)).json()).toEqual({
        name: 'app',
        tags: ['v1'],
      });
      await expectSpecError(await fetch(`${cistern.url}/v2/app/manifests/v2`), 404, 'MANIFEST_UNKNOWN');
      await expectSpecError(
        await fetch(`${cistern.url}/v2/app/blobs/sha256:${'0'.repeat(64)}`),
        404,
        'BLOB_UNKNOWN',
      );
      expect(cistern.log().match(/nobody is asked/g)).toHaveLength(1);
      expect(await readdir(root, { recursive: true })).toEqual(before);
    } finally {
      await chmodAll(root, 0o755, 0o644);
    }
  });
});

describe('who may pull', () => {
  it('htpasswd: a challenge, the right password, and a file that changes', async () => {
    await using folder = await temporaryFolder();
    const path = await writeHtpasswd({ alice: 'secret' }, folder.path);
    await using mirror = await startMirror({
      config: { auth: { htpasswd: { realm: 'the "mirror"', path } } },
    });
    const ask = (credentials?: string): Promise<Response> =>
      fetch(mirror.url(''), {
        headers: credentials === undefined ? {} : { authorization: `Basic ${btoa(credentials)}` },
      });
    for (const wrong of [undefined, 'alice:wrong', 'bob:secret', 'alice', ':']) {
      const answer = await ask(wrong);
      expect(answer.headers.get('www-authenticate')).toBe(String.raw`Basic realm="the \"mirror\""`);
      await expectSpecError(answer, 401, 'UNAUTHORIZED');
    }
    expect((await ask('alice:secret')).status).toBe(200);
    expect((await fetch(`${mirror.cistern.url}/healthz`)).status).toBe(200);
    await rm(path);
    await writeHtpasswd({ bob: 'other' }, folder.path);
    await expect.poll(async () => (await ask('bob:other')).status).toBe(200);
    expect((await ask('alice:secret')).status).toBe(401);
    expect(mirror.cistern.log()).not.toMatch(/secret|other/);
  });

  it.skipIf(lacks('openssl'))('TLS', async () => {
    await using folder = await temporaryFolder();
    const tls = await makeOwnCertificate(folder.path, 'mirror');
    await using mirror = await startMirror({ config: { http: { tls } } });
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    request(mirror.url(''), { rejectUnauthorized: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .once('error', reject)
      .end();
    expect(await promise).toBe(200);
  });
});

describe('what operators see', () => {
  it('http.headers are on every answer', async () => {
    const headers = { 'X-Content-Type-Options': ['nosniff'], 'X-Two': ['a', 'b'] };
    await using mirror = await startMirror({ config: { http: { headers } } });
    mirror.upstream.addImage('app', 'v1', imageOf({ layers: [randomLayer(10, 'h')] }));
    for (const path of [
      '/',
      '/healthz',
      '/nowhere',
      '/v2/',
      '/v2/app/manifests/v1',
      '/v2/app/manifests/v2',
      '/v2/x',
    ]) {
      const answer = await fetch(`${mirror.cistern.url}${path}`);
      expect({ path, value: answer.headers.get('x-content-type-options') }).toEqual({
        path,
        value: 'nosniff',
      });
      expect(answer.headers.get('x-two')).toBe('a, b');
      await answer.arrayBuffer();
    }
  });

  it('/debug/health and /readyz tell of the checks', async () => {
    await using folder = await temporaryFolder();
    const file = join(folder.path, 'out');
    const port = await freePort();
    const quick = { interval: '50ms' };
    await using mirror = await startMirror({
      config: {
        health: {
          storagedriver: { enabled: true, ...quick },
          file: [{ file, ...quick }],
          tcp: [{ addr: `127.0.0.1:${port}`, ...quick, threshold: 2 }],
        },
      },
    });
    const { cistern } = mirror;
    const health = async (): Promise<{ status: number; body: unknown }> => {
      const answer = await fetch(`${cistern.debugUrl}/debug/health`);
      return { status: answer.status, body: await answer.json() };
    };
    const tcp = `127.0.0.1:${port}`;
    await until(async () => (await health()).status === 503, soon());
    expect((await health()).body).toEqual({ [tcp]: expect.stringContaining('ECONNREFUSED') as string });
    expect((await fetch(`${cistern.url}/readyz`)).status).toBe(503);
    await using listener = await startMirror({ port });
    expect(listener.cistern.host).toBe(tcp);
    await until(async () => (await health()).status === 200, soon());
    expect((await health()).body).toEqual({});
    expect((await fetch(`${cistern.url}/readyz`)).status).toBe(200);
    await writeFile(file, '');
    await until(async () => (await health()).status === 503, soon());
    expect((await health()).body).toEqual({ [file]: 'file exists' });
    expect((await fetch(`${cistern.url}/readyz`)).status).toBe(503);
    expect((await fetch(`${cistern.url}/v2/`)).status).toBe(200);
    // Nothing of it on the public port.
    expect((await fetch(`${cistern.url}/debug/health`)).status).toBe(404);
    expect((await fetch(`${cistern.url}/metrics`)).status).toBe(404);
  });

  it('an http check', async () => {
    await using checked = await startMirror();
    const uri = `${checked.cistern.url}/v2/`;
    await using mirror = await startMirror({ config: { health: { http: [{ uri, interval: '50ms' }] } } });
    const status = async (): Promise<number> =>
      (await fetch(`${mirror.cistern.debugUrl}/debug/health`)).status;
    expect(await status()).toBe(200);
    await checked.cistern.stop();
    await until(async () => (await status()) === 503, soon());
    expect(await (await fetch(`${mirror.cistern.debugUrl}/debug/health`)).json()).toHaveProperty([uri]);
  });

  it('registry’s metrics, so that its dashboards go on', async () => {
    await using mirror = await startMirror();
    const image = imageOf({ layers: [randomLayer(10, 'metrics')] });
    mirror.upstream.addImage('app', 'v1', image);
    for (const path of [
      'app/manifests/v1',
      `app/blobs/${image.config.digest}`,
      `app/blobs/${image.config.digest}`,
    ]) {
      await (await fetch(mirror.url(path))).arrayBuffer();
      await untilIdle(mirror.cistern);
    }
    const text = await (await fetch(`${mirror.cistern.debugUrl}/metrics`)).text();
    for (const line of [
      /^registry_http_requests_total\{handler="manifest",method="get",code="200"\} 1$/m,
      /^registry_http_requests_total\{handler="blob",method="get",code="200"\} 2$/m,
      /^registry_http_in_flight_requests\{handler="blob"\} 0$/m,
      /^registry_http_request_duration_seconds_bucket\{/m,
      /^registry_http_request_size_bytes_bucket\{/m,
      /^registry_http_response_size_bytes_bucket\{/m,
      /^registry_storage_action_seconds_bucket\{.*driver="filesystem"/m,
      /^registry_storage_cache_total\{type="Request"\} [1-9]/m,
      /^registry_storage_cache_requests_total [1-9]/m,
      /^registry_storage_cache_hits_total \d/m,
      /^registry_storage_blob_upload_bytes_total [1-9]/m,
      /^registry_proxy_requests_total\{type="blob"\} 2$/m,
      /^registry_proxy_hits_total\{type="blob"\} 1$/m,
      /^registry_proxy_misses_total\{type="blob"\} 1$/m,
      /^registry_proxy_pulled_bytes_total\{type="blob"\} [1-9]/m,
      /^registry_proxy_pushed_bytes_total\{type="manifest"\} [1-9]/m,
    ]) {
      expect(text).toMatch(line);
    }
  });
});

async function accepts(url: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}

async function chmodAll(folder: string, folders: number, files: number): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    await (entry.isDirectory() ? chmodAll(path, folders, files) : chmod(path, files));
  }
  await chmod(folder, folders);
}
