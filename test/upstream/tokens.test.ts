import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { userWith } from '../../src/upstream/credentials.js';
import {
  basic,
  bearer,
  clientOf,
  credentials,
  impatient,
  patient,
  refuse,
  repository,
  sendJson,
  sendManifest,
  serve,
  tag,
  type Script,
  type ScriptedServer,
} from './scripted-registry.js';

const name = repository('o/i');
const latest = tag('latest');

/** A registry with a token server on the same origin: `/token` gives out tokens, `valid` says which ones are taken. */
async function protectedRegistry(
  token: Script,
  valid: (authorization: string | undefined) => boolean,
): Promise<ScriptedServer & { tokenRequests: () => number }> {
  const server = await serve((request, response) => {
    if (request.url.startsWith('/token')) token(request, response);
    else if (valid(request.headers.authorization)) sendManifest(request, response);
    else refuse(response, bearer(`${server.url}/token`));
  });
  const tokenRequests = (): number => server.arrived.filter(({ url }) => url.startsWith('/token')).length;
  return { ...server, tokenRequests };
}

describe('a token', () => {
  it.each([
    ['403 only for this repository', 403],
    ['403 for the credentials', 401],
    ['500', 500],
  ])('closes the connection of an error body that never ends: %s', async (_, withoutScope) => {
    let open = 0;
    const endless = (response: ServerResponse, status: number): void => {
      open += 1;
      response.once('close', () => (open -= 1));
      response.writeHead(status).write('{"errors":[');
    };
    const server = await protectedRegistry(
      ({ url }, response) => {
        if (withoutScope === 500) endless(response, 500);
        else if (url.includes('scope=')) endless(response, 403);
        else endless(response, withoutScope === 403 ? 200 : withoutScope);
      },
      () => false,
    );
    const { upstream } = clientOf(server.url, credentials);
    await expect(upstream.headManifest(name, latest, patient)).rejects.toThrow('registry.test');
    await expect.poll(() => open, { timeout: 20_000 }).toBe(0);
  });

  it('is asked for once, however many requests wait for it', async () => {
    const server = await protectedRegistry(
      (_, response) => setImmediate(() => sendJson(response, { token: 't1' })),
      (authorization) => authorization === 'Bearer t1',
    );
    const { upstream, told } = clientOf(server.url);
    await Promise.all(Array.from({ length: 50 }, () => upstream.headManifest(name, latest, patient)));
    expect(server.tokenRequests()).toBe(1);
    expect(told.tokens).toEqual(['granted']);
  });

  it('is asked for with scope, service and credentials, and sent up front from then on', async () => {
    const server = await protectedRegistry(
      (_, response) => sendJson(response, { access_token: 't1', expires_in: 300 }),
      (authorization) => authorization === 'Bearer t1',
    );
    const { upstream } = clientOf(server.url, credentials);
    await upstream.headManifest(name, latest, patient);
    await upstream.headManifest(name, latest, patient);
    expect(server.arrived.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/v2/o/i/manifests/latest', undefined],
      ['/token?service=registry&scope=repository%3Ao%2Fi%3Apull', basic],
      ['/v2/o/i/manifests/latest', 'Bearer t1'],
      ['/v2/o/i/manifests/latest', 'Bearer t1'],
    ]);
    await upstream.headManifest(repository('o/other'), latest, patient);
    expect(server.arrived.slice(4).map(({ url }) => url)).toEqual([
      '/token?service=registry&scope=repository%3Ao%2Fother%3Apull',
      '/v2/o/other/manifests/latest',
    ]);
  });

  it('that is no longer taken is replaced once', async () => {
    let current = 1;
    const server = await protectedRegistry(
      (_, response) => sendJson(response, { token: `t${current}` }),
      (authorization) => authorization === `Bearer t${current}`,
    );
    const { upstream } = clientOf(server.url);
    await upstream.headManifest(name, latest, patient);
    current = 2;
    await upstream.headManifest(name, latest, patient);
    expect(server.tokenRequests()).toBe(2);
    expect(server.arrived.at(-1)?.headers.authorization).toBe('Bearer t2');
  });

  it.each([
    ['60 s where its server does not say', {}, 51],
    ['what its server says', { expires_in: 600 }, 591],
    ['a short time', { expires_in: 4 }, 3.1],
    ['60 s where its server says nonsense', { expires_in: -5 }, 51],
  ])('is kept for %s, less a little', async (_, expiry, expiredAfter) => {
    let seconds = 1000;
    const server = await protectedRegistry(
      (_, response) => sendJson(response, { token: 't', ...expiry }),
      (authorization) => authorization === 'Bearer t',
    );
    const { upstream } = clientOf(server.url, { now: () => seconds * 1000 });
    await upstream.headManifest(name, latest, patient);
    seconds += expiredAfter * 0.95;
    await upstream.headManifest(name, latest, patient);
    expect(server.tokenRequests()).toBe(1);
    seconds += expiredAfter * 0.05;
    await upstream.headManifest(name, latest, patient);
    expect(server.tokenRequests()).toBe(2);
  });

  it('that gives no access means not found, and is not asked for twice in one request', async () => {
    const server = await protectedRegistry(
      (_, response) => sendJson(response, { token: 't' }),
      () => false,
    );
    const { upstream } = clientOf(server.url, credentials);
    const missing = expect.objectContaining({ code: 'not-found', kind: 'answer', status: 401 });
    await expect(upstream.headManifest(name, latest, patient)).rejects.toEqual(missing);
    expect(server.tokenRequests()).toBe(1);
    await expect(upstream.headManifest(name, latest, patient)).rejects.toEqual(missing);
    expect(server.tokenRequests()).toBe(2);
  });

  it.each<[string, Script, boolean, { code: string; status?: number; retryAfterMs?: number }]>([
    ['401, with credentials', (_, r) => sendJson(r, {}, 401), true, { code: 'credentials-refused' }],
    ['403, with credentials', (_, r) => sendJson(r, {}, 403), true, { code: 'credentials-refused' }],
    ['401, anonymously', (_, r) => sendJson(r, {}, 401), false, { code: 'not-found' }],
    [
      '403 for this repository alone, with credentials',
      (q, r) => sendJson(r, {}, q.url.includes('scope=') ? 403 : 200),
      true,
      { code: 'denied' },
    ],
    ['403, anonymously', (_, r) => sendJson(r, {}, 403), false, { code: 'denied' }],
    ['500', (_, r) => sendJson(r, {}, 500), true, { code: 'server-error', status: 500 }],
    [
      '429',
      (_, r) => r.writeHead(429, { 'retry-after': '7' }).end('slow down'),
      true,
      { code: 'rate-limited', retryAfterMs: 7000 },
    ],
    ['a redirect', (_, r) => r.writeHead(302, { location: '/elsewhere' }).end(), true, { code: 'invalid' }],
    ['no JSON', (_, r) => r.end('<html>'), true, { code: 'invalid' }],
    ['JSON that is no object', (_, r) => r.end('null'), true, { code: 'invalid' }],
    ['no token', (_, r) => sendJson(r, { token: 7 }), true, { code: 'invalid' }],
    ['a token that is no header', (_, r) => sendJson(r, { token: 'a\r\nx: y' }), true, { code: 'invalid' }],
    ['too much', (_, r) => sendJson(r, { token: 'x'.repeat(70_000) }), true, { code: 'invalid' }],
    ['nothing in time', () => {}, true, { code: 'timeout' }],
    ['a cut', (_, r) => r.destroy(), true, { code: 'unreachable' }],
  ])('cannot be had where its server answers %s', async (_, token, identified, expected) => {
    const server = await protectedRegistry(token, () => false);
    const { upstream, told } = clientOf(server.url, {
      ...(identified ? credentials : {}),
      ...(expected.code === 'timeout' ? impatient : {}),
    });
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject(expected);
    expect(told.tokens).toEqual([expected.code]);
  });

  it('is still fetched for the others when one of those that wait goes away', async () => {
    const arrived = Promise.withResolvers<() => void>();
    const server = await protectedRegistry(
      (_, response) => arrived.resolve(() => sendJson(response, { token: 't' })),
      (authorization) => authorization === 'Bearer t',
    );
    const { upstream } = clientOf(server.url);
    const leaving = new AbortController();
    const left = upstream.headManifest(name, latest, leaving.signal);
    const answer = await arrived.promise;
    const stayed = upstream.headManifest(name, latest, patient);
    leaving.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    answer();
    await expect(stayed).resolves.toMatchObject({ size: 19 });
    expect(server.tokenRequests()).toBe(1);
  });
});

describe('the Basic scheme', () => {
  const basicRegistry = (taken: string): Promise<ScriptedServer> =>
    serve((request, response) => {
      if (request.headers.authorization === taken) sendManifest(request, response);
      else refuse(response, 'Basic realm="registry"');
    });

  it('is answered with the credentials, up front from then on', async () => {
    const server = await basicRegistry(basic);
    const { upstream } = clientOf(server.url, credentials);
    await upstream.headManifest(name, latest, patient);
    await upstream.headManifest(name, latest, patient);
    expect(server.arrived.map(({ headers }) => headers.authorization)).toEqual([undefined, basic, basic]);
  });

  it('takes up a new password', async () => {
    const server = await basicRegistry(basic);
    let password = 'old';
    const { upstream } = clientOf(server.url, {
      credentials: [userWith('user', () => Promise.resolve(password))],
    });
    const refused = expect.objectContaining({ code: 'credentials-refused', kind: 'trouble' });
    await expect(upstream.headManifest(name, latest, patient)).rejects.toEqual(refused);
    await expect(upstream.headManifest(name, latest, patient)).rejects.toEqual(refused);
    expect(server.arrived, 'nobody is locked out by tries that cannot succeed').toHaveLength(3);
    password = 'hunter2';
    await expect(upstream.headManifest(name, latest, patient)).resolves.toMatchObject({ size: 19 });
  });

  it('without credentials means not found', async () => {
    const { upstream } = clientOf((await basicRegistry(basic)).url);
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'not-found' });
  });

  it('with a password that cannot be read is trouble', async () => {
    const password = (): Promise<string> => Promise.reject(new Error('ENOENT'));
    const { upstream } = clientOf((await basicRegistry(basic)).url, {
      credentials: [userWith('user', password)],
    });
    await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({
      code: 'credentials-refused',
    });
  });
});

it('cannot answer a 401 that does not say how', async () => {
  const server = await serve((_, response) => refuse(response, 'Negotiate'));
  const anonymous = clientOf(server.url).upstream;
  await expect(anonymous.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'not-found' });
  const identified = clientOf(server.url, credentials).upstream;
  await expect(identified.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'invalid' });
});
