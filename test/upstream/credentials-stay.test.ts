import { describe, expect, it } from 'vitest';
import {
  basic,
  bearer,
  clientOf,
  credentials,
  digest,
  impatient,
  patient,
  read,
  refuse,
  repository,
  sendJson,
  sendManifest,
  serve,
  tag,
} from './scripted-registry.js';

const name = repository('o/i');
const latest = tag('latest');
const blob = digest('content');

describe('credentials', () => {
  it('go to no realm of another domain, and neither does an anonymous request', async () => {
    const evil = await serve((_, response) => sendJson(response, { token: 't' }));
    const realm = `http://localhost:${evil.port}/token?secret=query`;
    const server = await serve((_, response) => refuse(response, bearer(realm)));
    for (const identity of [credentials, {}]) {
      const { upstream, told } = clientOf(server.url, identity);
      const refused = upstream.headManifest(name, latest, patient);
      await expect(refused).rejects.toMatchObject({ code: 'realm-refused', kind: 'trouble' });
      await expect(refused).rejects.toThrow(`localhost:${evil.port}`);
      await expect(refused).rejects.not.toThrow('query');
      expect(told.tokens).toEqual([]);
    }
    expect(evil.connections()).toBe(0);
    expect(server.arrived.every(({ headers }) => headers.authorization === undefined)).toBe(true);
  });

  it('go to a listed realm', async () => {
    const tokens = await serve((_, response) => sendJson(response, { token: 't' }));
    const server = await serve((request, response) => {
      if (request.headers.authorization === 'Bearer t') sendManifest(request, response);
      else refuse(response, bearer(`http://localhost:${tokens.port}/token`));
    });
    const { upstream } = clientOf(server.url, { ...credentials, realms: ['localhost'] });
    await upstream.headManifest(name, latest, patient);
    expect(tokens.arrived.map(({ headers }) => headers.authorization)).toEqual([basic]);
  });

  it('go to no realm that turns hostile after the first challenge', async () => {
    const evil = await serve((_, response) => sendJson(response, { token: 'evil' }));
    let realm = '/token';
    const server = await serve((request, response) => {
      if (request.url.startsWith('/token')) sendJson(response, { token: 't' });
      else if (realm === '/token' && request.headers.authorization === 'Bearer t')
        sendManifest(request, response);
      else refuse(response, bearer(realm === '/token' ? `${server.url}/token` : realm));
    });
    const { upstream } = clientOf(server.url, credentials);
    await upstream.headManifest(name, latest, patient);
    realm = `http://localhost:${evil.port}/token`;
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
      code: 'realm-refused',
    });
    expect(evil.connections()).toBe(0);
  });

  it.each([301, 302, 303, 307, 308])('do not follow a %i to another host', async (status) => {
    const storage = await serve((_, response) => response.end('content'));
    const server = await serve((request, response) => {
      if (request.headers.authorization === undefined) return refuse(response, 'Basic realm="r"');
      response
        .writeHead(status, { location: `http://localhost:${storage.port}/blob?signature=s3cret` })
        .end();
    });
    const { upstream } = clientOf(server.url, credentials);
    const { size, body } = await upstream.fetchBlob(name, blob, 3, patient);
    expect(size).toBe(7);
    expect((await read(body)).toString()).toBe('tent');
    expect(server.arrived.at(-1)?.headers.authorization).toBe(basic);
    expect(storage.arrived).toHaveLength(1);
    const [asked] = storage.arrived;
    expect(asked).toMatchObject({ method: 'GET', url: '/blob?signature=s3cret' });
    expect(asked?.headers).toMatchObject({ range: 'bytes=3-', 'accept-encoding': 'identity' });
    expect(asked?.headers).not.toHaveProperty('authorization');
  });

  it('do not follow a redirect on the same host, whatever it asks for then', async () => {
    const server = await serve((request, response) => {
      if (request.url === '/elsewhere') return refuse(response, 'Basic realm="r"');
      if (request.headers.authorization === undefined) return refuse(response, 'Basic realm="r"');
      response.writeHead(302, { location: '/elsewhere' }).end();
    });
    const { upstream } = clientOf(server.url, credentials);
    await expect(upstream.fetchBlob(name, blob, 0, patient)).rejects.toMatchObject({ code: 'invalid' });
    const elsewhere = server.arrived.filter(({ url }) => url === '/elsewhere');
    expect(elsewhere.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });
});

describe('redirects', () => {
  it('are followed five times', async () => {
    let most = 5;
    const server = await serve((request, response) => {
      const hop = Number(new URL(request.url, server.url).searchParams.get('hop') ?? 0);
      if (hop === most) return response.end('content');
      return response.writeHead(307, { location: `?hop=${hop + 1}` }).end();
    });
    const { upstream } = clientOf(server.url);
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    expect((await read(body)).toString()).toBe('content');
    most = 6;
    await expect(upstream.fetchBlob(name, blob, 0, patient)).rejects.toMatchObject({ code: 'invalid' });
  });

  it.each([
    ['another scheme', 'file:///etc/passwd'],
    ['no URL', 'http://'],
    ['nowhere', undefined],
  ])('to %s are refused', async (_, location) => {
    const server = await serve((_, response) =>
      response.writeHead(302, location === undefined ? {} : { location }).end(),
    );
    const { upstream } = clientOf(server.url);
    await expect(upstream.fetchBlob(name, blob, 0, patient)).rejects.toMatchObject({ code: 'invalid' });
  });

  it('leave no trace of a signed URL in errors, events and the log', async () => {
    const storage = await serve((_, response) => response.writeHead(500).end());
    const gone = await serve(() => {});
    let location = `${storage.url}/path?signature=s3cret`;
    const server = await serve((_, response) => response.writeHead(307, { location }).end());
    const { upstream, told } = clientOf(server.url, impatient);
    const seen: unknown[] = [];
    const note = (error: unknown): void => {
      const { message, cause } = error as Error;
      seen.push(message, cause instanceof Error ? [cause.message, cause] : cause);
    };
    for (location of [
      location,
      `${gone.url}/path?signature=s3cret`,
      'http://127.0.0.1:1/path?signature=s3cret',
      'ftp://x/path?signature=s3cret',
    ]) {
      await upstream.fetchBlob(name, blob, 0, patient).then(undefined, note);
    }
    expect(seen).toHaveLength(8);
    expect(JSON.stringify([seen, told])).not.toMatch(/s3cret|signature|path/);
  });
});
