import { once } from 'node:events';
import { copyFile, mkdtemp, rename, rm } from 'node:fs/promises';
import { createServer, request as forward } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  type CertificateFiles,
  makeOwnCertificate,
  type PemPair,
  readPemPair,
} from '../parts/certificates.js';
import { lacks } from '../parts/debian.js';
import {
  clientOf,
  digest,
  patient,
  read,
  repository,
  sendManifest,
  serve,
  tag,
} from './scripted-registry.js';

const name = repository('o/i');
const latest = tag('latest');

let folder: string;
let tls: PemPair;
let ca: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tls-'));
  const own = await certify('cert');
  ca = own.certificate;
  tls = await readPemPair(own);
  return () => rm(folder, { recursive: true });
});

/** One that is its own authority. */
function certify(title: string): Promise<CertificateFiles> {
  return makeOwnCertificate(folder, title, ['DNS:registry.example.test', 'IP:127.0.0.1']);
}

/** A proxy on loopback that leads every name to one port of loopback. */
async function proxyTo(port: number): Promise<{ url: string; seen: string[]; authorization: Set<unknown> }> {
  const seen: string[] = [];
  const authorization = new Set<unknown>();
  const sockets = new Set<Socket>();
  const server = createServer((incoming, response) => {
    seen.push(`${incoming.method} ${incoming.url}`);
    authorization.add(incoming.headers['proxy-authorization']);
    const { pathname } = new URL(incoming.url ?? '');
    const { method, headers } = incoming;
    forward({ port, host: '127.0.0.1', path: pathname, method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    }).end();
  });
  server.on('connection', (socket) => sockets.add(socket));
  server.on('connect', (incoming, client) => {
    seen.push(`CONNECT ${incoming.url}`);
    authorization.add(incoming.headers['proxy-authorization']);
    const onward = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n');
      onward.pipe(client).pipe(onward);
    });
    for (const socket of [onward, client]) socket.on('error', () => onward.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    url: `http://user:p%40ss@127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    authorization,
  };
}

describe.skipIf(lacks('openssl'))('an authority of one’s own', () => {
  it('is trusted beside the others', async () => {
    const server = await serve(sendManifest, tls);
    await expect(clientOf(server.url).upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining('DEPTH_ZERO_SELF_SIGNED_CERT'),
    });
    await expect(
      clientOf(server.url, { ca }).upstream.headManifest(name, latest, patient),
    ).resolves.toMatchObject({
      size: 19,
    });
  });

  it('does not vouch for other names', async () => {
    const server = await serve(sendManifest, tls);
    const { upstream } = clientOf(`https://localhost:${server.port}`, { ca });
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
      message: expect.stringContaining('ERR_TLS_CERT_ALTNAME_INVALID'),
    });
  });

  it('holds for where redirects lead, which is https or nowhere', async () => {
    const plain = await serve((_, response) => response.end('content'));
    const storage = await serve((_, response) => response.end('content'), tls);
    let location = `${storage.url}/blob`;
    const server = await serve((_, response) => response.writeHead(307, { location }).end(), tls);
    const { upstream } = clientOf(server.url, { ca });
    const { body } = await upstream.fetchBlob(name, digest('content'), 0, patient);
    expect((await read(body)).toString()).toBe('content');
    location = `${plain.url}/blob?signature=s3cret`;
    const refused = upstream.fetchBlob(name, digest('content'), 0, patient);
    await expect(refused).rejects.toMatchObject({ code: 'invalid' });
    await expect(refused).rejects.not.toThrow('s3cret');
    expect(plain.connections()).toBe(0);
  });

  it.each(['directly', 'through a proxy'])(
    'is trusted when it takes the place of another, %s',
    async (how) => {
      const server = await serve(sendManifest, tls);
      const { certificate: trusted } = await certify('trusted');
      const proxy = how === 'directly' ? {} : { proxy: { https: (await proxyTo(server.port)).url } };
      const url = how === 'directly' ? server.url : 'https://registry.example.test';
      const { upstream } = clientOf(url, { ca: trusted, ...proxy });
      await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
        code: 'unreachable',
      });
      await copyFile(ca, join(folder, 'next'));
      await rename(join(folder, 'next'), trusted);
      expect(await upstream.headManifest(name, latest, patient)).toMatchObject({ size: 19 });
      expect(await upstream.headManifest(name, latest, patient)).toMatchObject({ size: 19 });
      expect(server.connections()).toBeLessThan(4);
    },
  );

  it('that cannot be read stops the start', () => {
    expect(() => clientOf('https://registry.example.test', { ca: '/nowhere.pem' })).toThrow('ENOENT');
  });
});

describe.skipIf(lacks('openssl'))('a proxy', () => {
  it('carries https by CONNECT, with its own credentials and not ours', async () => {
    const server = await serve(sendManifest, tls);
    const proxy = await proxyTo(server.port);
    const { upstream } = clientOf('https://registry.example.test', { ca, proxy: { https: proxy.url } });
    await upstream.headManifest(name, latest, patient);
    await upstream.headManifest(name, latest, patient);
    expect(new Set(proxy.seen)).toEqual(new Set(['CONNECT registry.example.test:443']));
    expect([...proxy.authorization]).toEqual([`Basic ${Buffer.from('user:p@ss').toString('base64')}`]);
    expect(server.arrived).toHaveLength(2);
    expect(server.arrived[0]?.headers).not.toHaveProperty('proxy-authorization');
  });

  it('carries http as it is', async () => {
    const server = await serve(sendManifest);
    const proxy = await proxyTo(server.port);
    const { upstream } = clientOf('http://registry.example.test', { proxy: { http: proxy.url } });
    await upstream.headManifest(name, latest, patient);
    expect(proxy.seen).toEqual(['HEAD http://registry.example.test/v2/o/i/manifests/latest']);
    expect(server.arrived[0]?.headers.host).toBe('registry.example.test');
  });

  it('is left out for what is on this machine and what NO_PROXY lists', async () => {
    const server = await serve(sendManifest);
    const proxy = await proxyTo(server.port);
    const { upstream } = clientOf(server.url, { proxy: { http: proxy.url } });
    await upstream.headManifest(name, latest, patient);
    const excepted = clientOf('http://registry.invalid', { proxy: { http: proxy.url, no: '.invalid' } });
    await expect(excepted.upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
      code: 'unreachable',
    });
    expect(proxy.seen).toEqual([]);
  });

  it.each([
    ['refuses', 'HTTP/1.1 407 Proxy Authentication Required\r\n\r\n', 'unreachable'],
    ['is silent', '', 'timeout'],
  ])('that %s is trouble', async (_, answer, code) => {
    const silent = createServer();
    silent.on('connect', (_, socket) => {
      socket.write(answer);
      onTestFinished(() => void socket.destroy());
    });
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    onTestFinished(() => void silent.close());
    const proxy = { https: `http://user:hunter2@127.0.0.1:${(silent.address() as AddressInfo).port}` };
    const timeouts = { connectMs: 300, headersMs: 60_000 };
    const { upstream } = clientOf('https://registry.example.test', { ca, proxy, timeouts });
    const asked = upstream.headManifest(name, latest, patient);
    await expect(asked).rejects.toMatchObject({ code, kind: 'trouble' });
    await expect(asked).rejects.not.toThrow('hunter2');
  });
});
