import { describe, expect, it } from 'vitest';
import { basicHeader, userWith } from '../../src/upstream/credentials.js';
import {
  bearer,
  clientOf,
  digest,
  patient,
  read,
  refuse,
  repository,
  type ScriptedServer,
  sendJson,
  sendManifest,
  serve,
  tag,
} from './scripted-registry.js';

const name = repository('o/i');
const latest = tag('latest');
const account = (username: string) => userWith(username, () => `${username}'s password`);
const headerOf = (username: string): string => basicHeader(username, `${username}'s password`);
const users = [account('first'), account('second')];
const pauseMs = 5 * 60_000;

/** A registry with Basic authentication that takes some accounts. */
function basicRegistry(taken: Set<string>): Promise<ScriptedServer> {
  return serve((request, response) => {
    const user = [...taken].find((username) => headerOf(username) === request.headers.authorization);
    if (user === undefined) refuse(response, 'Basic realm="registry"');
    else if (request.url.includes('/blobs/')) response.end('blob');
    else sendManifest(request, response);
  });
}

function usersOf(server: ScriptedServer): (string | undefined)[] {
  return server.arrived.map(({ headers }) =>
    users
      .map(({ account: username }) => username)
      .find((username) => headerOf(username) === headers.authorization),
  );
}

describe('while the first credentials are refused', () => {
  it('the second are used, for manifests and blobs, and the first are left alone', async () => {
    const server = await basicRegistry(new Set(['second']));
    const { upstream, told } = clientOf(server.url, { credentials: users });
    await upstream.headManifest(name, latest, patient);
    await upstream.fetchManifest(name, latest, patient);
    const blob = await upstream.fetchBlob(name, digest('blob'), 0, patient);
    expect((await read(blob.body)).toString()).toBe('blob');
    expect(usersOf(server)).toEqual([undefined, 'first', undefined, 'second', 'second', 'second']);
    expect(told.log).toEqual([
      '{"upstream":"registry.test","credentials":"1 of 2"} the upstream refuses credentials of ours, using the others',
    ]);
  });

  it('the second get their token, and what the token server said is counted', async () => {
    const server = await serve((request, response) => {
      const { authorization } = request.headers;
      if (request.url.startsWith('/token')) {
        if (authorization === headerOf('second')) sendJson(response, { token: 'good', expires_in: 300 });
        else sendJson(response, {}, 401);
      } else if (authorization === 'Bearer good') sendManifest(request, response);
      else refuse(response, bearer(`${server.url}/token`));
    });
    const { upstream, told } = clientOf(server.url, { credentials: users });
    await upstream.headManifest(name, latest, patient);
    await upstream.headManifest(name, latest, patient);
    expect(told.tokens).toEqual(['credentials-refused', 'granted']);
  });

  it('they are tried again after a while, and used once they are taken', async () => {
    const taken = new Set(['second']);
    const server = await basicRegistry(taken);
    let now = 0;
    const { upstream, told } = clientOf(server.url, { credentials: users, now: () => now });
    const ask = async (): Promise<(string | undefined)[]> => {
      server.arrived.length = 0;
      await upstream.headManifest(name, latest, patient);
      return usersOf(server);
    };
    await ask();
    now += pauseMs - 1;
    expect(await ask()).toEqual(['second']);
    now += 1;
    expect(await ask()).toEqual(['first', 'second']);
    expect(told.log).toHaveLength(1);
    taken.add('first');
    expect(await ask()).toEqual(['second']);
    now += pauseMs;
    expect(await ask()).toEqual(['first']);
    expect(await ask()).toEqual(['first']);
    expect(told.log[1]).toContain('the upstream takes the credentials again');
  });
});

describe('when all credentials are refused', () => {
  it('that is trouble, and a new password is taken up at once', async () => {
    const taken = new Set<string>();
    const server = await basicRegistry(taken);
    const { upstream, told } = clientOf(server.url, { credentials: users });
    const refused = { code: 'credentials-refused', kind: 'trouble' };
    for (let times = 0; times < 2; times += 1) {
      await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject(refused);
    }
    expect(told.log).toHaveLength(2);
    taken.add('first');
    await expect(upstream.headManifest(name, latest, patient)).resolves.toMatchObject({ size: 19 });
  });

  it('nothing of them is told', async () => {
    const server = await basicRegistry(new Set());
    const { upstream, told } = clientOf(server.url, { credentials: users });
    const error: unknown = await upstream.headManifest(name, latest, patient).catch((err: unknown) => err);
    expect(`${String(error)} ${JSON.stringify(error)} ${told.log.join(' ')}`).not.toMatch(/first|second/);
  });
});

it('no access for the first credentials is an answer, and no reason to try the second', async () => {
  const server = await serve((request, response) => {
    if (request.url.startsWith('/token')) sendJson(response, { token: 'powerless' });
    else refuse(response, bearer(`${server.url}/token`));
  });
  const { upstream, told } = clientOf(server.url, { credentials: users });
  await expect(upstream.headManifest(name, latest, patient)).rejects.toMatchObject({ code: 'not-found' });
  expect(told.tokens).toEqual(['granted']);
  expect(told.log).toEqual([]);
});
