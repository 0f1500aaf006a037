import type { IncomingMessage } from 'node:http';
import { describe, expect, it } from 'vitest';
import type { GrantConfig } from '../config/config.js';
import { network, type Network } from '../config/values.js';
import { parseRepository, type Repository } from '../oci/name.js';
import { parsePath } from '../oci/path.js';
import { UpstreamDirectory } from '../upstream/directory.js';
import { AccessControl, type Caller } from './access-control.js';
import type { Authentication, Claim } from './authentication.js';
import { ClientAddresses } from './client-address.js';
import { RegistryError } from './errors.js';
import { Grants, membershipsOf } from './grants.js';

const host = { upstream: undefined, aliases: [], hosts: [] };
const directory = new UpstreamDirectory([
  { ...host, host: 'docker.io', isDefault: true, library: 'always' },
  { ...host, host: 'ghcr.io', hosts: ['g.mirror'], isDefault: false, library: 'never' },
]);

interface Scene {
  /** Claims by what stands in `Authorization`; `user` alone: all. */
  readonly tokens?: Readonly<Record<string, readonly Claim[]>>;
  readonly grants?: Readonly<Record<string, readonly Partial<GrantConfig>[]>>;
  readonly open?: boolean;
  /** Members by the name of their group. */
  readonly groups?: Readonly<Record<string, readonly string[]>>;
  /** Whether clients are who their certificate says. */
  readonly certificates?: boolean;
}

/** Clients send their name; `wrong` is refused. */
function control({
  tokens,
  grants = {},
  open = false,
  groups = {},
  certificates = false,
}: Scene): AccessControl {
  const authentication: Authentication = {
    login: (user) =>
      Promise.resolve(
        user === undefined || user === 'wrong' ? user && 'refused' : { user, claims: tokens?.[user] },
      ) as ReturnType<Authentication['login']>,
    challenge: (scope, trouble) =>
      new RegistryError('UNAUTHORIZED', undefined, { 'WWW-Authenticate': `${scope} ${trouble}` }),
  };
  const nothing = { users: [], groups: [], anonymous: false, networks: [], repositories: [] };
  return new AccessControl({
    authentication: open || certificates ? undefined : authentication,
    certificates,
    grants: new Map(
      Object.entries(grants).map(([name, list]) => [
        name,
        new Grants(list.map((grant) => ({ ...nothing, ...grant }))),
      ]),
    ),
    memberships: membershipsOf(groups),
    addresses: new ClientAddresses([]),
    directory,
  });
}

interface Asked {
  readonly user?: string;
  readonly from?: string;
  readonly host?: string;
  /** Of the certificate. */
  readonly subject?: Readonly<Record<string, unknown>>;
}

function ask(
  access: AccessControl,
  path: string,
  { user, from = '192.0.2.1', host: name, subject }: Asked = {},
) {
  const certificate = subject === undefined ? {} : { getPeerCertificate: () => ({ subject }) };
  const request = {
    headers: { authorization: user, host: name },
    socket: { remoteAddress: from, ...certificate },
  };
  const { signal } = new AbortController();
  return access.admit({ request: request as unknown as IncomingMessage, signal }, parsePath(path));
}

/** `200`, the code of a refusal, or `401` with what is challenged for. */
async function answer(access: AccessControl, path: string, asked: Asked = {}): Promise<string> {
  try {
    await ask(access, path, asked);
    return '200';
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    return error.code === 'UNAUTHORIZED' ? `401 ${error.headers['WWW-Authenticate']}` : error.code;
  }
}

const networks = (text: string): Network[] => [network.read(text)].filter((each) => each !== undefined);
const pull = (name: string): Claim => ({ type: 'repository', name, actions: ['pull'] });
const blob = (name: string, query = '') => `/v2/${name}/blobs/sha256:${'a'.repeat(64)}${query}`;

describe('without grants', () => {
  it.each([
    ['/v2/', {}, '401 undefined undefined'],
    ['/v2/', { user: 'wrong' }, '401 undefined invalid_token'],
    ['/v2/', { user: 'ann' }, '200'],
    ['/v2/_catalog', {}, '401 registry:catalog:* undefined'],
    ['/v2/nowhere', {}, '401 undefined undefined'],
    [blob('team/app'), {}, '401 repository:team/app:pull undefined'],
    [blob('team/app'), { user: 'ann' }, '200'],
    [blob('ghcr.io/team/app'), {}, '401 repository:ghcr.io/team/app:pull undefined'],
    [
      blob('team/app', '?ns=ghcr.io'),
      { user: 'wrong' },
      '401 repository:ghcr.io/team/app:pull invalid_token',
    ],
    [blob('team/app', '?ns=nowhere.example'), {}, '401 undefined undefined'],
    [blob('TEAM'), {}, '401 undefined undefined'],
  ])('whoever logged in may pull: %s %j', async (path, asked, expected) => {
    expect(await answer(control({}), path, asked)).toBe(expected);
  });
});

describe('a token', () => {
  const access = control({
    tokens: {
      app: [pull('team/app')],
      ghcr: [pull('ghcr.io/team/app')],
      library: [pull('library/busybox')],
      bare: [pull('busybox')],
      push: [{ type: 'repository', name: 'team/app', actions: ['push'] }],
      catalog: [{ type: 'registry', name: 'catalog', actions: ['*'] }],
      malformed: [pull('../team/app'), pull('TEAM/app'), pull('')],
    },
  });
  const lacks = (name: string) => `401 repository:${name}:pull insufficient_scope`;

  it.each([
    ['app', 'team/app', '200'],
    ['app', 'team/app?ns=docker.io', '200'],
    ['app', 'docker.io/team/app', '200'],
    ['app', 'team/app2', lacks('team/app2')],
    ['app', 'ghcr.io/team/app', lacks('ghcr.io/team/app')],
    ['app', 'team/app?ns=ghcr.io', lacks('ghcr.io/team/app')],
    ['app', 'team/app?ns=GHCR.IO', lacks('ghcr.io/team/app')],
    ['ghcr', 'team/app?ns=ghcr.io', '200'],
    ['ghcr', 'ghcr.io/team/app', '200'],
    ['ghcr', 'team/app', lacks('team/app')],
    ['library', 'busybox', '200'],
    ['bare', 'library/busybox', '200'],
    ['bare', 'busybox?ns=ghcr.io', lacks('ghcr.io/busybox')],
    ['push', 'team/app', lacks('team/app')],
    ['catalog', 'team/app', lacks('team/app')],
    ['malformed', 'team/app', lacks('team/app')],
  ])('of %s for %s', async (user, wanted, expected) => {
    const [name = '', query] = wanted.split('?');
    for (const kind of ['manifests/latest', 'tags/list', `referrers/sha256:${'a'.repeat(64)}`]) {
      const path = `/v2/${name}/${kind}${query === undefined ? '' : `?${query}`}`;
      expect(await answer(access, path, { user })).toBe(expected);
    }
  });

  it('names the upstream also where the name of the mirror does', async () => {
    expect(await answer(access, blob('team/app'), { user: 'app', host: 'g.mirror' })).toBe(
      lacks('ghcr.io/team/app'),
    );
    expect(await answer(access, blob('team/app'), { user: 'ghcr', host: 'g.mirror:5000' })).toBe('200');
  });

  it('shows the catalogue to whoever may see it', async () => {
    expect(await answer(access, '/v2/_catalog', { user: 'catalog' })).toBe('200');
    expect(await answer(access, '/v2/_catalog', { user: 'app' })).toBe(
      '401 registry:catalog:* insufficient_scope',
    );
    expect(await answer(access, '/v2/', { user: 'app' })).toBe('200');
  });
});

describe('grants', () => {
  const access = control({
    tokens: { nothing: [] },
    grants: {
      'docker.io': [
        { users: ['ann'], repositories: ['team/*'] },
        { users: ['*'], repositories: ['shared'] },
        { users: ['bob'], networks: networks('10.1.0.0/16') },
        { networks: networks('10.2.0.0/16'), repositories: ['library/*'] },
        { anonymous: true, repositories: ['public/app'] },
      ],
    },
  });

  it.each([
    ['team/app', { user: 'ann' }, '200'],
    ['team/app/more', { user: 'ann' }, '200'],
    ['team', { user: 'ann' }, 'DENIED'],
    ['teams/app', { user: 'ann' }, 'DENIED'],
    ['docker.io/team/app', { user: 'ann' }, '200'],
    ['team/app', { user: 'eve' }, 'DENIED'],
    ['team/app', {}, '401 repository:team/app:pull undefined'],
    ['team/app', { user: 'wrong' }, '401 repository:team/app:pull invalid_token'],
    ['team/app', { user: 'nothing' }, '401 repository:team/app:pull insufficient_scope'],
    ['team/app', { user: 'bob', from: '10.1.0.1' }, '200'],
    ['team/app', { user: 'bob' }, 'DENIED'],
    ['team/app', { from: '10.1.0.1' }, '401 repository:team/app:pull undefined'],
    ['busybox', { from: '10.2.0.1' }, '200'],
    ['busybox', { from: '::ffff:10.2.0.1', user: 'wrong' }, '200'],
    ['busybox', { from: '10.3.0.1' }, '401 repository:busybox:pull undefined'],
    ['team/app', { from: '10.2.0.1' }, 'DENIED'],
    ['team/app', { from: '10.2.0.1', user: 'wrong' }, 'DENIED'],
    ['ghcr.io/team/app', { from: '10.2.0.1' }, 'DENIED'],
    ['ghcr.io/team/app', { user: 'eve' }, '200'],
    ['public/app', {}, '200'],
    ['public/app', { user: 'nothing' }, '200'],
    ['public/app2', {}, '401 repository:public/app2:pull undefined'],
  ])('decide about %s for %j', async (name, asked, expected) => {
    expect(await answer(access, blob(name), asked)).toBe(expected);
  });

  it('never ask an address for a login that has none to give', async () => {
    for (const path of ['/v2/', '/v2/_catalog', '/v2/nowhere'])
      expect(await answer(access, path, { from: '10.2.0.1' })).toBe('200');
  });

  it('decide what the catalogue shows', async () => {
    const shown = async (asked: Asked): Promise<string[]> => {
      const caller: Caller = await ask(access, '/v2/', asked);
      const stored = ['team/app', 'library/busybox', 'public/app', 'ghcr.io/team/app'].map(
        (name) => parseRepository(name) as Repository,
      );
      return stored.filter((name) => access.mayList(caller, name));
    };
    expect(await shown({ user: 'ann' })).toEqual(['team/app', 'public/app', 'ghcr.io/team/app']);
    expect(await shown({ user: 'eve' })).toEqual(['public/app', 'ghcr.io/team/app']);
    expect(await shown({ from: '10.2.0.1' })).toEqual(['library/busybox', 'public/app']);
  });

  it('need no login where there is none', async () => {
    const open = control({ open: true, grants: { 'ghcr.io': [{ networks: networks('10.2.0.0/16') }] } });
    expect(await answer(open, blob('team/app'))).toBe('200');
    expect(await answer(open, blob('ghcr.io/team/app'))).toBe('DENIED');
    expect(await answer(open, blob('team/app', '?ns=ghcr.io'))).toBe('DENIED');
    expect(await answer(open, blob('ghcr.io/team/app'), { from: '10.2.0.1' })).toBe('200');
    expect(await answer(open, '/v2/')).toBe('200');
  });
});

describe('groups', () => {
  const groups = { devs: ['ann', 'bob'], ops: ['bob'] };
  const grants = {
    'docker.io': [
      { groups: ['devs'], repositories: ['team/*'] },
      { groups: ['ops'], users: ['cid'], repositories: ['ops/*'] },
      { groups: ['ops'], networks: networks('10.1.0.0/16'), repositories: ['near/*'] },
    ],
  };

  it.each([
    ['team/app', { user: 'ann' }, '200'],
    ['team/app', { user: 'bob' }, '200'],
    ['team/app', { user: 'cid' }, 'DENIED'],
    ['team/app', { user: 'devs' }, 'DENIED'],
    ['team/app', {}, '401 repository:team/app:pull undefined'],
    ['team/app', { user: 'wrong' }, '401 repository:team/app:pull invalid_token'],
    ['ops/app', { user: 'ann' }, 'DENIED'],
    ['ops/app', { user: 'bob' }, '200'],
    ['ops/app', { user: 'cid' }, '200'],
    ['near/app', { user: 'bob' }, 'DENIED'],
    ['near/app', { user: 'bob', from: '10.1.0.1' }, '200'],
    // Not for everybody in the network, who is asked therefore.
    ['near/app', { from: '10.1.0.1' }, '401 repository:near/app:pull undefined'],
  ])('let their members in: %s for %j', async (name, asked, expected) => {
    expect(await answer(control({ groups, grants }), blob(name), asked)).toBe(expected);
  });

  it('have members by the name in a token, which has to grant the repository itself', async () => {
    const access = control({ groups, grants, tokens: { ann: [pull('team/app')], cid: [pull('team/app')] } });
    expect(await answer(access, blob('team/app'), { user: 'ann' })).toBe('200');
    expect(await answer(access, blob('team/b'), { user: 'ann' })).toBe(
      '401 repository:team/b:pull insufficient_scope',
    );
    expect(await answer(access, blob('team/app'), { user: 'cid' })).toBe('DENIED');
  });

  it.each([
    ['team/app', { CN: 'ann' }, '200'],
    ['team/app', { CN: 'eve' }, 'DENIED'],
    ['team/app', { CN: 'eve', O: 'devs' }, '200'],
    ['team/app', { CN: 'eve', O: ['other', 'devs'] }, '200'],
    ['team/app', { O: 'devs' }, '200'],
    ['team/app', { CN: ['ann', 'eve'] }, 'DENIED'],
    ['team/app', { CN: 'eve', OU: 'devs' }, 'DENIED'],
    ['team/app', { CN: 'devs', O: 'devs,ops' }, 'DENIED'],
    ['ops/app', { CN: 'ann', O: 'ops' }, '200'],
  ])('of certificates are their organisations: %s for %j', async (name, subject, expected) => {
    const access = control({ groups, grants, certificates: true });
    expect(await answer(access, blob(name), { subject })).toBe(expected);
  });

  it('of certificates count for nothing where there is another login', async () => {
    const subject = { CN: 'ann', O: 'devs' };
    expect(await answer(control({ groups, grants }), blob('team/app'), { user: 'cid', subject })).toBe(
      'DENIED',
    );
  });

  it('decide what the catalogue shows', async () => {
    const access = control({ groups, grants });
    const caller = await ask(access, '/v2/', { user: 'bob' });
    const stored = ['team/app', 'ops/app', 'near/app'].map((name) => parseRepository(name) as Repository);
    expect(stored.filter((name) => access.mayList(caller, name))).toEqual(['team/app', 'ops/app']);
  });
});

describe('whoever is at an address that a grant is for', () => {
  const access = control({
    open: true,
    grants: {
      'docker.io': [
        { networks: networks('10.2.0.0/16'), repositories: ['library/*'] },
        { anonymous: true, repositories: ['public/*'] },
      ],
    },
  });

  it.each([
    ['busybox', '10.2.0.1', true],
    ['busybox?ns=docker.io', '10.2.0.1', true],
    ['public/app', '10.2.0.1', false],
    ['public/app', '192.0.2.1', false],
    ['ghcr.io/library/busybox', '10.2.0.1', false],
  ])('is let in to that alone without being verified: %s from %s', async (wanted, from, expected) => {
    const [name = '', query = ''] = wanted.split('?');
    expect(await ask(access, blob(name, query && `?${query}`), { from })).toMatchObject({
      letIn: expected,
      neverAsked: from === '10.2.0.1',
    });
  });
});
