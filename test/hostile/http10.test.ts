import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeOwnCertificate } from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { type Content, descriptorOf, imageOf, jsonContent, randomLayer } from '../parts/image.js';
import { blobOf, startMirror, untilIdle, type Mirror } from '../parts/mirror.js';
import { startNginx } from '../parts/nginx.js';

const MiB = 1024 * 1024;
const cleanup = new AsyncDisposableStack();
let folder: string;
let mirror: Mirror;
beforeAll(async () => {
  folder = cleanup.use(await temporaryFolder()).path;
  mirror = cleanup.use(await startMirror());
});
afterEach(() => mirror.upstream.clearFaults());
afterAll(() => cleanup.disposeAsync());

interface Ending {
  readonly how: 'close' | 'reset';
  readonly head: string;
  readonly bytes: number;
}

/** Reads an answer as an HTTP/1.0 client. Calls `begun` when the body begins. Returns how the connection ends. */
async function receive(url: string, request: string, begun: () => void = () => undefined): Promise<Ending> {
  const { hostname, port, protocol } = new URL(url);
  const to = { host: hostname, port: Number(port) };
  const socket: Socket =
    protocol === 'https:' ? connectTls({ ...to, rejectUnauthorized: false }) : connect(to);
  let text = '';
  const bodyAt = (): number => (text.includes('\r\n\r\n') ? text.indexOf('\r\n\r\n') + 4 : Infinity);
  socket.setEncoding('latin1').on('data', (piece: string) => {
    text += piece;
    if (text.length > bodyAt()) begun();
  });
  const { promise, resolve } = Promise.withResolvers<Ending['how']>();
  socket.once('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') resolve('reset');
  });
  socket.once('close', () => resolve('close'));
  socket.write(`${request}\r\nHost: mirror.test\r\n\r\n`);
  const how = await promise;
  return { how, head: text.slice(0, bodyAt()), bytes: Math.max(0, text.length - bodyAt()) };
}

const get = (blob: Content, headers = ''): string =>
  `GET /v2/team/app/blobs/${blob.digest} HTTP/1.0${headers}`;

/** Makes the mirror cut the body at its end, by a wrong byte. The upstream holds half back until `rest` settles. */
function spoil({ upstream }: Mirror, blob: Content, rest: Promise<unknown>): void {
  upstream.addBlob('team/app', blob);
  const path = `/v2/team/app/blobs/${blob.digest}`;
  const late = { stallAt: blob.size / 2, until: rest };
  upstream.fault({ method: 'GET', path }, { chunked: true, corruptAt: 0, ...late });
  upstream.fault({ method: 'HEAD', path }, { chunked: true });
}

/** Adds a manifest that names the sizes of these blobs, right or wrong, and pulls it. */
async function name(mirror: Mirror, tag: string, layers: readonly Content[]): Promise<void> {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const { config } = imageOf({ layers: [] });
  const named = {
    schemaVersion: 2,
    mediaType,
    config: descriptorOf(config),
    layers: layers.map(descriptorOf),
  };
  mirror.upstream.addManifest('team/app', jsonContent(mediaType, named), tag);
  expect((await fetch(mirror.url(`team/app/manifests/${tag}`))).status).toBe(200);
}

describe('an HTTP/1.0 client of a body whose size is unknown', () => {
  it.each(['', '\r\nRange: bytes=5-'])('gets a reset if the body is cut%j', async (headers) => {
    const blob = blobOf(MiB, `cut ${headers}`);
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    spoil(mirror, blob, begun);
    const { how, head } = await receive(mirror.cistern.url, get(blob, headers), begin);
    expect(head).toMatch(/^HTTP\/1\.1 200 /);
    expect(head).not.toMatch(/content-length|transfer-encoding/i);
    expect(how).toBe('reset');
  });

  it('gets a reset if the body is cut under TLS', async () => {
    const files = await makeOwnCertificate(folder, 'mirror');
    await using secure = await startMirror({ config: { http: { tls: files } } });
    const blob = blobOf(MiB, 'cut under TLS');
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    spoil(secure, blob, begun);
    expect(await receive(secure.cistern.url, get(blob), begin)).toMatchObject({ how: 'reset' });
  });

  it('gets a reset if the mirror stops in the middle', async () => {
    await using stopped = await startMirror({ config: { http: { draintimeout: '1ms' } } });
    const blob = blobOf(MiB, 'stopped');
    const never = new Promise<void>(() => undefined);
    spoil(stopped, blob, never);
    const stop = (): void => stopped.cistern.kill('SIGTERM');
    expect(await receive(stopped.cistern.url, get(blob), stop)).toMatchObject({ how: 'reset' });
  });

  it('gets a complete body, followed by a normal close', async () => {
    const blob = blobOf(MiB, 'whole');
    mirror.upstream.addBlob('team/app', blob);
    mirror.upstream.fault({ path: /blobs/ }, { chunked: true });
    const { how, head, bytes } = await receive(mirror.cistern.url, get(blob));
    expect(head).not.toMatch(/content-length/i);
    expect({ how, bytes }).toEqual({ how: 'close', bytes: blob.size });
  });
});

describe('a blob whose size only a manifest names, not its upstream', () => {
  it.each([
    ['GET', ''],
    ['HEAD', ''],
    ['GET', '\r\nRange: bytes=5-'],
  ])('is announced with that size to %s%j', async (method, headers) => {
    const blob = blobOf(MiB, `named ${method} ${headers}`);
    mirror.upstream.addBlob('team/app', blob);
    mirror.upstream.fault({ path: /blobs/ }, { chunked: true, ignoreRange: true });
    await name(mirror, `named-${method}-${headers.length}`, [blob]);
    const ending = await receive(mirror.cistern.url, get(blob, headers).replace('GET', method));
    expect(ending.head).toMatch(/^HTTP\/1\.1 200 /);
    expect(ending.head).toMatch(new RegExp(`^content-length: ${blob.size}\r$`, 'im'));
    expect(ending).toMatchObject({ how: 'close', bytes: method === 'HEAD' ? 0 : blob.size });
    await untilIdle(mirror.cistern);
  });

  it.each([
    ['fewer', -1],
    ['many fewer', -700_000],
    ['more', 1],
  ])('never looks complete if the manifest names %s bytes than it has', async (wrong, difference) => {
    const blob = blobOf(MiB, `lie ${wrong}`);
    mirror.upstream.addBlob('team/app', blob);
    mirror.upstream.fault({ path: /blobs/ }, { chunked: true });
    const size = blob.size + difference;
    await name(mirror, `lie${difference}`, [{ ...blob, size }]);
    const { head, bytes } = await receive(mirror.cistern.url, get(blob));
    expect(head).toMatch(new RegExp(`^content-length: ${size}\r$`, 'im'));
    expect(bytes).toBeLessThan(size);
  });
});

describe.skipIf(lacks('nginx'))('a client behind nginx, which speaks HTTP/1.0 to the mirror', () => {
  let front: string;
  beforeAll(async () => {
    const pass = `location / { proxy_pass ${mirror.cistern.url}; proxy_http_version 1.0; proxy_buffering off; }`;
    front = cleanup.use(await startNginx(join(folder, 'nginx'), pass)).url;
  });

  it.each([true, false])('sees that a body is cut (its size is in a manifest: %s)', async (isNamed) => {
    const blob = blobOf(MiB, `behind nginx ${isNamed}`);
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    spoil(mirror, blob, begun);
    if (isNamed) await name(mirror, 'cut', [blob]);
    const answer = await fetch(`${front}/v2/team/app/blobs/${blob.digest}`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-length')).toBe(isNamed ? String(blob.size) : null);
    begin();
    await expect(answer.arrayBuffer()).rejects.toThrow('terminated');
  });

  it('receives an image whole', async () => {
    const image = imageOf({ layers: [randomLayer(MiB, 'whole')] });
    mirror.upstream.addImage('team/app', 'whole', image);
    mirror.upstream.fault({ path: /blobs/ }, { chunked: true });
    expect((await fetch(`${front}/v2/team/app/manifests/whole`)).status).toBe(200);
    for (const { digest, bytes } of [image.config, ...image.layers]) {
      const answer = await fetch(`${front}/v2/team/app/blobs/${digest}`);
      expect(Buffer.from(await answer.arrayBuffer()).equals(bytes)).toBe(true);
    }
  });
});
