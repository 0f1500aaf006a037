import { describe, expect, it } from 'vitest';
import type { CallerCheck } from '../../src/upstream/caller.js';
import { isTrouble } from '../../src/upstream/upstream.js';
import {
  type Arrived,
  bearer,
  clientOf,
  credentials,
  digest,
  patient,
  refuse,
  repository,
  type Script,
  sendJson,
  serve,
  tag,
} from './scripted-registry.js';

const ada = { username: 'ada', password: 'l0velace' };
const header = `Basic ${Buffer.from('ada:l0velace').toString('base64')}`;
const minutes = 60_000;
const manifest = { kind: 'manifest', reference: tag('v1') } as const;
const other = { kind: 'blob', reference: digest('a layer') } as const;
const name = repository('o/i');

interface Lab {
  readonly check: CallerCheck;
  readonly arrived: readonly Arrived[];
  readonly told: ReturnType<typeof clientOf>['told'];
  later(ms: number): void;
}

/** A client with credentials of its own, in front of a scripted registry, with a clock of the test's. */
async function labOf(script: Script, timeouts?: { callerMs: number }): Promise<Lab> {
  const server = await serve(script);
  let time = 1;
  const { upstream, told } = clientOf(server.url, {
    ...credentials,
    verifycaller: true,
    now: () => time,
    ...(timeouts === undefined ? {} : { timeouts }),
  });
  const { callers } = upstream;
  if (callers === undefined) throw new TypeError('no check was made');
  return { check: callers, arrived: server.arrived, told, later: (ms) => void (time += ms) };
}

const withBasic: Script = ({ headers }, response) => {
  if (headers.authorization === header) response.writeHead(200).end();
  else refuse(response, 'Basic realm="x"');
};

const answering =
  (status: number): Script =>
  (_, response) =>
    void response.writeHead(status).end();

describe('whether a caller may read', () => {
  it("is asked by HEAD, first without a credential and then with the caller's own", async () => {
    const { check, arrived } = await labOf(withBasic);
    expect(await check.ask(ada, name, manifest, patient)).toBe('allowed');
    expect(arrived.map(({ method, url, headers }) => [method, url, headers.authorization])).toEqual([
      ['HEAD', '/v2/o/i/manifests/v1', undefined],
      ['HEAD', '/v2/o/i/manifests/v1', header],
    ]);
  });

  it('holds for the repository and five minutes, and is then asked again', async () => {
    let revoked = false;
    const { check, arrived, later } = await labOf((request, response) => {
      if (revoked) refuse(response, 'Basic realm="x"');
      else withBasic(request, response);
    });
    expect(await check.ask(ada, name, manifest, patient)).toBe('allowed');
    revoked = true;
    const before = arrived.length;
    later(5 * minutes - 1);
    expect(await check.ask(ada, name, other, patient)).toBe('allowed');
    expect(arrived).toHaveLength(before);
    later(2);
    expect(await check.ask(ada, name, other, patient)).toBe('refused');
  });

  it('is asked for each repository and each caller', async () => {
    const { check, arrived } = await labOf(withBasic);
    await check.ask(ada, name, manifest, patient);
    await check.ask(ada, repository('o/another'), manifest, patient);
    expect(arrived).toHaveLength(4);
    expect(await check.ask({ ...ada, password: 'wrong' }, name, manifest, patient)).toBe('refused');
    expect(await check.ask({ ...ada, username: 'bob' }, name, manifest, patient)).toBe('refused');
  });

  it('is asked once for all who ask at the same time', async () => {
    const { check, arrived } = await labOf(withBasic);
    const verdicts = await Promise.all([1, 2, 3].map(() => check.ask(ada, name, manifest, patient)));
    expect(verdicts).toEqual(['allowed', 'allowed', 'allowed']);
    expect(arrived).toHaveLength(2);
  });

  it('is told to one who stays when another who asked the same leaves', async () => {
    const { check } = await labOf(withBasic);
    const leaving = new AbortController();
    const left = check.ask(ada, name, manifest, leaving.signal);
    const stays = check.ask(ada, name, manifest, patient);
    leaving.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    expect(await stays).toBe('allowed');
  });

  it.each([
    [403, 'denied'],
    [404, 'unknown'],
  ] as const)('is no by %i, for seconds and for this content alone', async (status, verdict) => {
    const { check, arrived, later } = await labOf(answering(status));
    expect(await check.ask(ada, name, manifest, patient)).toBe(verdict);
    expect(await check.ask(ada, name, manifest, patient)).toBe(verdict);
    expect(arrived).toHaveLength(1);
    await check.ask(ada, name, other, patient);
    later(5_001);
    await check.ask(ada, name, manifest, patient);
    expect(arrived).toHaveLength(3);
  });

  it.each([500, 429, 302, 405, 206])('is not known by %i', async (status) => {
    const { check } = await labOf(answering(status));
    await expect(check.ask(ada, name, manifest, patient)).rejects.toSatisfy(isTrouble);
  });

  it('is not known when the upstream does not answer in time', async () => {
    const { check } = await labOf(() => {}, { callerMs: 100 });
    await expect(check.ask(ada, name, manifest, patient)).rejects.toMatchObject({ code: 'timeout' });
  });

  it("is asked of a token server with the caller's credential, and never with ours", async () => {
    const { check, arrived, told } = await labOf((request, response) => {
      if (request.url.startsWith('/token')) {
        if (request.headers.authorization === header) sendJson(response, { token: 'granted' });
        else refuse(response, 'Basic realm="x"');
      } else if (request.headers.authorization === 'Bearer granted') response.writeHead(200).end();
      else refuse(response, bearer(`http://${request.headers.host}/token`));
    });
    expect(await check.ask(ada, name, manifest, patient)).toBe('allowed');
    const token = arrived.find(({ url }) => url.startsWith('/token'));
    expect(new URL(token?.url ?? '', 'http://x').searchParams.get('scope')).toBe('repository:o/i:pull');
    expect(await check.ask({ ...ada, password: 'wrong' }, name, manifest, patient)).toBe('refused');
    const sent = new Set(arrived.map(({ headers }) => headers.authorization));
    const wrong = `Basic ${Buffer.from('ada:wrong').toString('base64')}`;
    expect(sent).toEqual(new Set([undefined, header, wrong, 'Bearer granted']));
    expect(told.log).toEqual([]);
    expect(told.tokens).toEqual([]);
  });

  it('sends the credential to no realm elsewhere', async () => {
    const elsewhere = await serve((_, response) => sendJson(response, { token: 'x' }));
    const { check } = await labOf((_, response) =>
      refuse(response, bearer(`http://localhost:${elsewhere.port}/token`)),
    );
    await expect(check.ask(ada, name, manifest, patient)).rejects.toMatchObject({ code: 'realm-refused' });
    expect(elsewhere.arrived).toEqual([]);
  });

  it('sends the credential across no redirect, and answers no challenge behind one', async () => {
    const elsewhere = await serve((_, response) => refuse(response, 'Basic realm="x"'));
    const { check } = await labOf(
      (_, response) => void response.writeHead(307, { location: `${elsewhere.url}/there` }).end(),
    );
    await expect(check.ask(ada, name, manifest, patient)).rejects.toSatisfy(isTrouble);
    expect(elsewhere.arrived.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  it('is yes where the registry, given the credential, leads to a storage that takes signed GETs alone', async () => {
    const storage = await serve(({ method }, response) =>
      method === 'HEAD'
        ? response.writeHead(403).end()
        : response.writeHead(206, { 'content-range': 'bytes 0-0/7' }).end('x'),
    );
    const script: Script = ({ headers }, response) => {
      if (headers.authorization === header) response.writeHead(307, { location: storage.url }).end();
      else refuse(response, 'Basic realm="x"');
    };
    expect(await (await labOf(script)).check.ask(ada, name, other, patient)).toBe('allowed');
    expect(storage.arrived.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
  });

  it.each<[string, Script]>([
    ['a page', (_, r) => r.writeHead(200, { 'content-type': 'text/html' }).end('<html>log in</html>')],
    [
      'a redirect to a page',
      ({ url }, r) =>
        url === '/login'
          ? r.writeHead(200, { 'content-type': 'text/html' }).end('<html>log in</html>')
          : r.writeHead(302, { location: '/login' }).end(),
    ],
    [
      'a redirect to a refusal',
      ({ url }, r) => (url === '/login' ? r.writeHead(403) : r.writeHead(302, { location: '/login' })).end(),
    ],
    [
      'another digest',
      (_, r) =>
        r.writeHead(200, { 'docker-content-digest': digest('another'), 'content-length': 1 }).end('x'),
    ],
  ])('is an error, not a yes, if the upstream answers with %s', async (_, answer) => {
    const script: Script = (request, response) => {
      if (request.headers.authorization === header || request.url === '/login') answer(request, response);
      else refuse(response, 'Basic realm="x"');
    };
    const { check } = await labOf(script);
    await expect(check.ask(ada, name, other, patient)).rejects.toMatchObject({ code: 'invalid' });
  });
});
