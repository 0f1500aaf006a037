import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';
import { ConfigError } from './faults.js';
import { loadConfig } from './load.js';

const texts = new ConfigTexts();

describe('a configuration', () => {
  it('needs no more than a version and a driver', () => {
    const { config, warnings } = texts.load('version: 0.1\nstorage: filesystem');
    expect(warnings).toEqual([]);
    expect(config.storage).toMatchObject({ filesystem: { rootdirectory: '/var/lib/registry' } });
    expect(config.http).toMatchObject({
      net: 'tcp',
      addr: ':5000',
      prefix: '/',
      draindelay: 20_000,
      draintimeout: 60_000,
    });
    expect(config.http).toMatchObject({ tls: undefined, debug: undefined });
    expect(config.log).toMatchObject({ level: 'info', formatter: 'text', accesslog: { disabled: false } });
    expect(config.proxy).toMatchObject({
      default: undefined,
      upstreams: [],
      host: 'docker.io',
      hostexplicit: false,
    });
    expect(config.proxy).toMatchObject({ freshness: 60_000, spool: { maxsize: 20e9 } });
    expect(config.auth).toBeUndefined();
  });

  it('is frozen, all of it', () => {
    const { config } = texts.load(`${minimal}proxy: {remoteurl: http://a, realms: [b]}`);
    expect(() => Object.assign(config.http, { addr: ':1' })).toThrow(TypeError);
    expect(Object.isFrozen(config.proxy.default?.realms)).toBe(true);
  });

  it('takes paths relative to the working directory', () => {
    const { config } = texts.load(
      'version: 0.1\nstorage: {filesystem: {rootdirectory: ./data}}\nhttp: {net: unix, addr: s}',
    );
    expect(config.storage).toMatchObject({ filesystem: { rootdirectory: join(texts.folder, 'data') } });
    expect(config.http.addr).toBe(join(texts.folder, 's'));
  });

  it('keeps text that looks like a number as it is written', () => {
    const { config } = texts.load(`${minimal}proxy: {remoteurl: http://a, username: 007, password: 0x1F}`);
    expect(config.proxy.default?.credentials[0]?.username).toBe('007');
    expect(config.proxy.default?.credentials[0]?.password?.reveal()).toBe('0x1F');
  });

  it('takes an empty key for none', () => {
    const { config } = texts.load(`${minimal}proxy:\nhttp:\n  addr:\nlog: {level: "", fields: {a: }}`);
    expect(config.proxy.default).toBeUndefined();
    expect(config.http.addr).toBe(':5000');
    expect(config.log).toMatchObject({ level: 'info', fields: {} });
  });

  it('knows the old spellings', () => {
    const { config } = texts.load(
      'version: 0.1\nloglevel: debug\nstorage: {filesystem: , cache: {layerinfo: inmemory}}',
    );
    expect(config.log.level).toBe('debug');
    expect(config.storage.cache.blobdescriptor).toBe('inmemory');
  });

  it('reads the checks of registry, for whom zero means the default', () => {
    const { config } = texts.load(
      `${minimal}health: {file: [{file: down, interval: 5s}], tcp: [{addr: 'a:1', threshold: 0, interval: 0}], http: [{uri: 'http://a/x'}]}`,
    );
    expect(config.health.file).toEqual([{ file: join(texts.folder, 'down'), interval: 5000, threshold: 1 }]);
    expect(config.health.tcp).toEqual([{ addr: 'a:1', interval: 10_000, timeout: 3000, threshold: 1 }]);
    expect(config.health.http).toEqual([
      { uri: 'http://a/x', headers: {}, statuscode: 200, interval: 10_000, timeout: 3000, threshold: 1 },
    ]);
  });

  it.each([
    ["registry 2's", 'redis: {addr: "r:6379", password: p, db: 2, dialtimeout: 10ms}', ['r:6379']],
    ["registry 3's", 'redis: {addrs: ["a:1", "b:2"], mastername: m, sentinelpassword: p}', ['a:1', 'b:2']],
    ['the nested one', 'redis: {sentinel: {mastername: m, addrs: "a:1, b:2"}}', ['a:1', 'b:2']],
  ])('takes %s spelling of a Redis', (_, section, addrs) => {
    const { config, warnings } = texts.load(minimal + section);
    expect(config.redis?.addrs).toEqual(addrs);
    expect(warnings).toEqual([]);
  });
});

describe('upstreams', () => {
  it('are found by their names', () => {
    const { config } = texts.load(
      `${minimal}proxy: {remoteurl: 'https://registry-1.docker.io', upstreams: [{host: GHCR.io, url: 'https://ghcr.io/', hosts: [g.example]}]}`,
    );
    expect(config.proxy.default).toMatchObject({
      host: 'docker.io',
      aliases: ['index.docker.io', 'registry-1.docker.io'],
      hosts: [],
      url: 'https://registry-1.docker.io',
    });
    expect(config.proxy.upstreams).toEqual([
      {
        host: 'ghcr.io',
        aliases: [],
        url: 'https://ghcr.io',
        hosts: ['g.example'],
        credentials: [],
        realms: [],
        access: [],
        redirects: [],
        verifycaller: false,
        ranges: { connections: 1, minsize: 16 * 1024 * 1024 },
        siblings: false,
        ttl: 604_800_000,
      },
    ]);
  });

  it("take remoteurl's own host for another name of the default", () => {
    const { proxy } = texts.load(
      `${minimal}proxy: {remoteurl: 'http://127.0.0.1:5003', host: mirror.local}`,
    ).config;
    expect(proxy).toMatchObject({ host: 'mirror.local', hostexplicit: true });
    expect(proxy.default).toMatchObject({ host: 'mirror.local', aliases: ['127.0.0.1:5003'] });
    const hub = texts.load(
      `${minimal}proxy: {remoteurl: 'https://registry-1.docker.io', host: hub.local}`,
    ).config;
    expect(hub.proxy.default?.aliases).toEqual(['docker.io', 'index.docker.io', 'registry-1.docker.io']);
  });

  it('take realms as they are written', () => {
    const { proxy } = texts.load(
      `${minimal}proxy: {remoteurl: http://a, realms: [registry-1.docker.io, Auth.example:8443]}`,
    ).config;
    expect(proxy.default?.realms).toEqual(['registry-1.docker.io', 'auth.example:8443']);
  });

  it.each([
    ['the default', 'remoteurl: http://a, upstreams: [{host: index.docker.io, url: http://b}]', '[0].host'],
    ["remoteurl's host", 'remoteurl: http://a, upstreams: [{host: a, url: http://a}]', '[0].host'],
    ['another', 'upstreams: [{host: a, url: http://a}, {host: A, url: http://b}]', '[1].host'],
    [
      'another',
      'upstreams: [{host: a, url: http://a, hosts: [x]}, {host: b, url: http://b, hosts: [X]}]',
      '[1].hosts[0]',
    ],
  ])('cannot share a name with %s', (_, proxy, key) => {
    expect(texts.faultyKeys(`${minimal}proxy: {${proxy}}`)).toEqual([`proxy.upstreams${key}`]);
  });

  it.each([
    ['username: u', 'password'],
    ['password: p', 'username'],
    ['username: u, password: p, passwordfile: config.yml', 'passwordfile'],
    ['username: u, passwordfile: nowhere', 'passwordfile'],
    ['ca: nowhere', 'ca'],
  ])('want whole credentials, not {%s}', (credentials, key) => {
    expect(texts.faultyKeys(`${minimal}proxy: {remoteurl: http://a, ${credentials}}`)).toEqual([
      `proxy.${key}`,
    ]);
    expect(
      texts.faultyKeys(`${minimal}proxy: {upstreams: [{host: b, url: http://b, ${credentials}}]}`),
    ).toEqual([`proxy.upstreams[0].${key}`]);
  });

  it('have a URL whose path is refused with the reason', () => {
    const [fault] = texts.failure(`${minimal}proxy: {remoteurl: https://a.example/sub/}`).faults;
    expect(fault?.got).toBe('"https://a.example/sub/"');
    expect(fault?.wanted).toContain('https://a.example alone');
  });
});

describe('where nobody names a file', () => {
  const found = (places: string[], env: NodeJS.ProcessEnv = {}) =>
    loadConfig({ env, cwd: texts.folder, places }).source;

  it('the first of the usual places counts, and a variable before them', () => {
    const first = texts.file('first.yml', minimal);
    const second = texts.file('second.yml', minimal);
    expect(found([first, second])).toBe(first);
    expect(found([join(texts.folder, 'none.yml'), second])).toBe(second);
    expect(found([first], { REGISTRY_CONFIGURATION_PATH: second })).toBe(second);
    expect(found([first], { REGISTRY_CONFIGURATION_PATH: '' })).toBe(first);
  });

  it('a place that cannot be read is not passed over', () => {
    expect(() => found([texts.folder, texts.file('second.yml', minimal)])).toThrow(ConfigError);
  });

  it('none at all is a fault', () => {
    expect(() => found([join(texts.folder, 'none.yml')])).toThrow(ConfigError);
  });
});
