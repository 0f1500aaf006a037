import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';

const texts = new ConfigTexts();

const token = (keys: string) =>
  `${minimal}auth: {token: {realm: 'https://auth.example/token', service: s, issuer: i, ${keys}}}`;
const htpasswd = 'auth: {htpasswd: {realm: r, path: config.yml}}\n';
const upstream = (access: string) =>
  `proxy: {upstreams: [{host: a.example, url: 'https://a.example', access: ${access}}]}\n`;
const withGroups = (groups: string, access: string) =>
  upstream(access).replace('proxy: {', `proxy: {groups: ${groups}, `);
const grants = 'proxy.upstreams[0].access';

describe('tokens', () => {
  it('are configured as for registry', () => {
    expect(texts.load(token('rootcertbundle: config.yml, signingalgorithms: [ES256]')).config.auth).toEqual({
      token: {
        realm: 'https://auth.example/token',
        service: 's',
        issuer: 'i',
        rootcertbundle: join(texts.folder, 'config.yml'),
        jwks: undefined,
        signingalgorithms: ['ES256'],
      },
    });
    expect(texts.load(token('jwks: config.yml')).warnings).toEqual([]);
  });

  it('need keys, and a way to sign that needs a private one', () => {
    expect(texts.faultyKeys(token(''))).toEqual(['auth.token.rootcertbundle']);
    for (const name of ['none', 'HS256', 'es256']) {
      expect(texts.faultyKeys(token(`jwks: config.yml, signingalgorithms: [${name}]`))).toEqual([
        'auth.token.signingalgorithms[0]',
      ]);
    }
  });

  it('are one way in, and not a second one', () => {
    const both = token('jwks: config.yml').replace(
      'auth: {',
      'auth: {htpasswd: {realm: r, path: config.yml}, ',
    );
    expect(texts.faultyKeys(both)).toEqual(['auth']);
  });
});

describe('client certificates', () => {
  const tls = (keys: string) => `${minimal}http: {tls: {certificate: config.yml, key: config.yml, ${keys}}}`;

  it('are asked for by naming their authorities', () => {
    const text = tls('clientcas: [config.yml], clientauth: require-and-verify-client-cert');
    expect(texts.load(text).config.http.tls?.clientcas).toEqual([join(texts.folder, 'config.yml')]);
  });

  it('are not asked for without TLS, or without authorities', () => {
    expect(texts.faultyKeys(`${minimal}http: {tls: {clientcas: [config.yml]}}`)).toEqual([
      'http.tls.certificate',
      'http.tls.key',
    ]);
    expect(texts.faultyKeys(tls('clientauth: require-and-verify-client-cert'))).toEqual([
      'http.tls.clientcas',
    ]);
    expect(texts.faultyKeys(tls('clientcas: [nowhere]'))).toEqual(['http.tls.clientcas[0]']);
  });
});

describe('grants', () => {
  it('name users, networks or everybody', () => {
    const text = `[{users: [ann, '*'], repositories: ['team/*']}, {networks: [10.0.0.0/8, 'fd00::1']}, {anonymous: true}]`;
    const { proxy } = texts.load(minimal + htpasswd + upstream(text)).config;
    expect(proxy.upstreams[0]?.access).toEqual([
      { users: ['ann', '*'], groups: [], anonymous: false, networks: [], repositories: ['team/*'] },
      {
        users: [],
        groups: [],
        anonymous: false,
        networks: [
          { family: 'ipv4', address: '10.0.0.0', prefix: 8 },
          { family: 'ipv6', address: 'fd00::1', prefix: 128 },
        ],
        repositories: [],
      },
      { users: [], groups: [], anonymous: true, networks: [], repositories: [] },
    ]);
  });

  it.each([
    ['[]', grants],
    ['[{repositories: [a]}]', `${grants}[0]`],
    ['[{users: []}]', `${grants}[0].users`],
    ['[{groups: []}]', `${grants}[0].groups`],
    ["[{groups: ['*']}]", `${grants}[0].groups[0]`],
    ['[{groups: [devs], anonymous: true}]', `${grants}[0].anonymous`],
    ['[{users: [ann], networks: []}]', `${grants}[0].networks`],
    ['[{anonymous: true, repositories: []}]', `${grants}[0].repositories`],
    ['[{users: [ann], anonymous: true}]', `${grants}[0].anonymous`],
    ['[{networks: [10.0.0.0/33]}]', `${grants}[0].networks[0]`],
    ['[{networks: [example.com]}]', `${grants}[0].networks[0]`],
    ['[{anonymous: true, repositories: [Team]}]', `${grants}[0].repositories[0]`],
    ["[{anonymous: true, repositories: ['te*m/a']}]", `${grants}[0].repositories[0]`],
    ['[{group: [a]}]', `${grants}[0].group`],
  ])('are refused where they would not mean what they seem to: %s', (access, key) => {
    expect(texts.faultyKeys(minimal + htpasswd + upstream(access))).toContain(key);
  });

  it('have no users where nobody can log in', () => {
    expect(texts.faultyKeys(minimal + upstream('[{users: [ann]}]'))).toEqual([`${grants}[0].users`]);
    const groups = withGroups('{devs: [ann]}', '[{groups: [devs]}]');
    expect(texts.faultyKeys(minimal + groups)).toEqual([`${grants}[0].groups`]);
  });

  it('are about somebody', () => {
    expect(texts.faultyKeys(`${minimal}proxy: {access: [{anonymous: true}]}`)).toEqual(['proxy.access']);
  });
});

describe('groups', () => {
  const certificates = 'http: {tls: {certificate: config.yml, key: config.yml, clientcas: [config.yml]}}\n';

  it('have users', () => {
    const text = withGroups('{devs: [ann, bob], ops: []}', '[{groups: [devs]}]');
    const { proxy } = texts.load(minimal + htpasswd + text).config;
    expect(proxy.groups).toEqual({ devs: ['ann', 'bob'], ops: [] });
    expect(proxy.upstreams[0]?.access[0]?.groups).toEqual(['devs']);
  });

  it('come from the environment as well', () => {
    const env = { REGISTRY_PROXY_GROUPS_DEVS: '[cid]' };
    const text = withGroups('{Devs: [ann], ops: [bob]}', '[{groups: [Devs]}]');
    expect(texts.load(minimal + htpasswd + text, env).config.proxy.groups).toEqual({
      Devs: ['cid'],
      ops: ['bob'],
    });
  });

  it.each([
    ['[ann]', 'proxy.groups'],
    ['{devs: ann}', 'proxy.groups.devs'],
    ["{devs: ['*']}", 'proxy.groups.devs[0]'],
    ["{devs: [ann, '']}", 'proxy.groups.devs[1]'],
  ])('are lists of names: %s', (groups, key) => {
    expect(texts.faultyKeys(minimal + htpasswd + withGroups(groups, '[{users: [ann]}]'))).toEqual([key]);
  });

  it('are those that are listed, unless certificates name them', () => {
    const text = withGroups('{devs: [ann]}', '[{groups: [devs, dev]}]');
    expect(texts.faultyKeys(minimal + htpasswd + text)).toEqual([`${grants}[0].groups[1]`]);
    expect(texts.faultyKeys(minimal + htpasswd + upstream('[{groups: [devs]}]'))).toEqual([
      `${grants}[0].groups[0]`,
    ]);
    expect(texts.load(minimal + certificates + text).config.proxy.upstreams[0]?.access[0]?.groups).toEqual([
      'devs',
      'dev',
    ]);
    // With a login besides, certificates do not say who somebody is.
    expect(texts.faultyKeys(minimal + htpasswd + certificates + text)).toEqual([`${grants}[0].groups[1]`]);
  });
});

describe('without any of these', () => {
  const open = (more: string) =>
    `${minimal}proxy: {remoteurl: https://registry-1.docker.io, username: u, password: p, upstreams: [{host: a.example, url: 'https://a.example', username: u, password: p${more}}, {host: b.example, url: 'https://b.example'}]}\n`;

  it('one warning names the upstreams that the mirror has credentials for', () => {
    const message = expect.stringMatching(/from docker\.io, a\.example$/) as string;
    expect(texts.load(open('')).warnings).toEqual([{ key: 'auth', message }]);
    expect(texts.load(`${open('')}auth: none\n`).warnings).toEqual([{ key: 'auth', message }]);
    const other = expect.stringMatching(/from docker\.io$/) as string;
    for (const more of [', access: [{anonymous: true}]', ', verifycaller: true'])
      expect(texts.load(open(more)).warnings).toEqual([{ key: 'auth', message: other }]);
  });

  it('and all of them where a docker config.json may have some for each', () => {
    const text = `${minimal}proxy: {dockerconfigjson: config.yml, upstreams: [{host: a.example, url: 'https://a.example'}]}\n`;
    const message = expect.stringMatching(/from a\.example$/) as string;
    expect(texts.load(text).warnings).toEqual([{ key: 'auth', message }]);
  });

  it('and there is none with a login', () => {
    expect(texts.load(open('') + htpasswd).warnings).toEqual([]);
  });
});
