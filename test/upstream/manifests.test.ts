import { describe, expect, it } from 'vitest';
import { longestManifest } from '../../src/upstream/upstream.js';
import {
  clientOf,
  digest,
  impatient,
  indexType,
  patient,
  repository,
  sendManifest,
  serve,
  tag,
  type Script,
} from './scripted-registry.js';

const name = repository('o/i');
const latest = tag('latest');
const bytes = '{"schemaVersion":1}';
const told = { digest: digest(bytes), size: bytes.length, mediaType: indexType };

describe('the HEAD of a manifest', () => {
  it('tells digest, size and media type', async () => {
    const server = await serve((request, response) => sendManifest(request, response));
    expect(await clientOf(server.url).upstream.headManifest(name, latest, patient)).toEqual(told);
    expect(server.arrived).toHaveLength(1);
    const { method, url, headers } = server.arrived[0] ?? {};
    expect([method, url]).toEqual(['HEAD', '/v2/o/i/manifests/latest']);
    expect(headers?.['accept-encoding']).toBe('identity');
    expect(headers?.accept?.split(', ')).toEqual([
      indexType,
      'application/vnd.oci.image.manifest.v1+json',
      'application/vnd.docker.distribution.manifest.list.v2+json',
      'application/vnd.docker.distribution.manifest.v2+json',
      'application/vnd.oci.artifact.manifest.v1+json',
      '*/*',
    ]);
  });

  const get = { 'content-type': `${indexType}; charset=utf-8` };
  it.each<[string, Script]>([
    ['without a digest', (_, r) => r.writeHead(200, { ...get, 'content-length': '19' })],
    [
      'with a digest that is none',
      (_, r) => r.writeHead(200, { ...get, 'content-length': '19', 'docker-content-digest': 'sha256:../..' }),
    ],
    [
      'without a length',
      (_, r) =>
        r.writeHead(200, { ...get, 'transfer-encoding': 'chunked', 'docker-content-digest': told.digest }),
    ],
    [
      'with a length that cannot be',
      (_, r) => r.writeHead(200, { ...get, 'content-length': '0', 'docker-content-digest': told.digest }),
    ],
    [
      'without a media type',
      (_, r) => r.writeHead(200, { 'content-length': '19', 'docker-content-digest': told.digest }),
    ],
    [
      'of an encoding',
      (_, r) =>
        r.writeHead(200, {
          ...get,
          'content-encoding': 'gzip',
          'content-length': '9',
          'docker-content-digest': told.digest,
        }),
    ],
    ['that is not allowed', (_, r) => r.writeHead(405)],
    ['that is not implemented', (_, r) => r.writeHead(501)],
  ])('%s is made up for by a GET', async (_, head) => {
    const server = await serve((request, response) => {
      if (request.method === 'HEAD') {
        head(request, response);
        response.end();
      } else response.writeHead(200, get).end(bytes);
    });
    const { upstream } = clientOf(server.url);
    expect(await upstream.headManifest(name, latest, patient)).toEqual(told);
    expect(await upstream.headManifest(name, told.digest, patient)).toEqual(told);
  });

  it('by digest does not take another one', async () => {
    const server = await serve((request, response) => sendManifest(request, response));
    const other = digest('other');
    const { upstream } = clientOf(server.url);
    await expect(upstream.headManifest(name, other, patient)).rejects.toMatchObject({ code: 'invalid' });
    const plain = await serve((_, response) => response.writeHead(200, get).end(bytes));
    const second = clientOf(plain.url).upstream;
    await expect(second.headManifest(name, other, patient)).rejects.toMatchObject({ code: 'invalid' });
  });

  it('by digest counts only if the answer names that digest', async () => {
    const headers = { ...get, 'content-length': '19' };
    const other = digest('other');
    const server = await serve((_, response) => response.writeHead(200, headers).end(bytes));
    const { upstream } = clientOf(server.url);
    await expect(upstream.headManifest(name, other, patient)).rejects.toMatchObject({ code: 'invalid' });
    expect(server.arrived.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  it.each<[string, Readonly<Record<string, string>>]>([
    ['a web page', { 'content-type': 'text/html; charset=utf-8' }],
    ['a web page that names a digest', { 'content-type': 'TEXT/HTML', 'docker-content-digest': told.digest }],
    ['a web page of another type', { 'content-type': 'application/xhtml+xml' }],
    ['something other than a manifest', { 'content-type': 'application/json' }],
  ])('fails if the answer is %s', async (_, headers) => {
    const page = '<html>log in</html>';
    const sent = { ...headers, 'content-length': page.length };
    for (const redirected of [false, true]) {
      const server = await serve((request, response) => {
        if (redirected && request.url !== '/login') response.writeHead(307, { location: '/login' }).end();
        else response.writeHead(200, sent).end(request.method === 'HEAD' ? undefined : page);
      });
      const { upstream } = clientOf(server.url);
      const trouble = { code: 'invalid', kind: 'trouble' };
      await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject(trouble);
      await expect(upstream.headManifest(name, told.digest, patient)).rejects.toMatchObject(trouble);
    }
  });

  it('that is too large is refused', async () => {
    const server = await serve((_, response) =>
      response
        .writeHead(200, {
          ...get,
          'content-length': longestManifest + 1,
          'docker-content-digest': told.digest,
        })
        .end(),
    );
    const { upstream } = clientOf(server.url);
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'invalid' });
  });
});

describe('a manifest', () => {
  it('comes as it is', async () => {
    const server = await serve((request, response) => sendManifest(request, response));
    expect(await clientOf(server.url).upstream.fetchManifest(name, latest, patient)).toEqual({
      bytes: Buffer.from(bytes),
      mediaType: indexType,
    });
  });

  it.each<[string, Script, string]>([
    [
      'that announces too much',
      (_, r) => r.writeHead(200, { 'content-length': longestManifest + 1 }).write('x'),
      'invalid',
    ],
    ['that is too large', (_, r) => r.writeHead(200).end(Buffer.alloc(longestManifest + 1)), 'invalid'],
    [
      'that is encoded',
      (_, r) => r.writeHead(200, { 'content-encoding': 'gzip' }).end('not what was stored'),
      'invalid',
    ],
    [
      'that is not what its header says',
      (_, r) => r.writeHead(200, { 'docker-content-digest': digest('other') }).end(bytes),
      'invalid',
    ],
    [
      'that is cut',
      (_, r) => r.writeHead(200, { 'content-length': 19 }).write('{', () => r.destroy()),
      'broken-body',
    ],
    ['that stalls', (_, r) => r.writeHead(200, { 'content-length': 19 }).write('{'), 'timeout'],
  ])('%s is refused', async (_, script, code) => {
    const server = await serve(script);
    const { upstream } = clientOf(server.url, code === 'timeout' ? impatient : {});
    await expect(upstream.fetchManifest(name, latest, patient)).rejects.toMatchObject({ code });
  });

  it('as large as a manifest may be is taken', async () => {
    const server = await serve((_, response) => response.end(Buffer.alloc(longestManifest)));
    const { upstream } = clientOf(server.url);
    expect((await upstream.fetchManifest(name, latest, patient)).bytes).toHaveLength(longestManifest);
  });
});
