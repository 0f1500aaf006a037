import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';

const texts = new ConfigTexts();

describe('unknown keys', () => {
  it("are warnings in registry's sections", () => {
    const { warnings } = texts.load(
      `${minimal}proxy: {remoteulr: x}\nhttp: {adr: x, debug: {prometheus: {pth: x}}}\nprxoy: {}`,
    );
    expect(warnings.map(({ key }) => key)).toEqual([
      'proxy.remoteulr',
      'http.adr',
      'http.debug.prometheus.pth',
      'prxoy',
    ]);
    expect(warnings.map(({ message }) => message.split(' ').at(-1))).toEqual([
      'proxy.remoteurl',
      'http.addr',
      'http.debug.prometheus.path',
      'proxy',
    ]);
  });

  it('are errors in ours, and where they would be a driver or a guard', () => {
    expect(
      texts.faultyKeys(
        `${minimal}proxy: {spool: {maxsiz: 1}, upstreams: [{host: a, url: http://a, user: x}]}\ncluster: {adr: x}\nscheduler: {gc: x}`,
      ),
    ).toEqual(['proxy.spool.maxsiz', 'proxy.upstreams[0].user', 'cluster.adr', 'scheduler.gc']);
    expect(texts.faultyKeys('version: 0.1\nstorage: {filesystem: , spool: {}}')).toEqual(['storage.spool']);
    expect(texts.faultyKeys(`${minimal}auth: {ldap: {}}`)).toEqual(['auth.ldap']);
  });
});

describe("registry's other keys", () => {
  it.each([
    'notifications: {endpoints: []}',
    'reporting: {bugsnag: {apikey: x}}',
    'middleware: {registry: []}',
    'validation: {disabled: true}',
    'catalog: {maxentries: 5}',
    'compatibility: {schema1: {enabled: true}}',
    'log: {hooks: []}',
    'http: {secret: x}',
    'http: {relativeurls: true}',
    'http: {http2: {disabled: true}}',
  ])('have no effect, and a warning says why: %s', (section) => {
    const [warning, ...more] = texts.load(minimal + section).warnings;
    expect(warning?.message).toMatch(/^has no effect: ./);
    expect(more).toEqual([]);
  });
});

describe('what deletes', () => {
  it.each([
    ['proxy.ttl', 'proxy: {ttl: 24h}'],
    ['proxy.maxsize', 'proxy: {maxsize: 500GB}'],
    ['proxy.minfree', 'proxy: {minfree: 1GiB}'],
    ['proxy.upstreams[0].ttl', 'proxy: {upstreams: [{host: a.io, url: http://a.io, ttl: 24h}]}'],
  ])('is without effect where nothing may be deleted, and a warning says so: %s', (key, section) => {
    const warning = { key, message: expect.stringContaining('storage.delete.enabled') };
    expect(texts.load(minimal + section).warnings).toEqual([warning]);
    expect(texts.warnedKeys(minimal + section, { REGISTRY_STORAGE_DELETE_ENABLED: 'true' })).toEqual([]);
  });

  it('makes no noise where it deletes nothing anyway', () => {
    expect(texts.warnedKeys(`${minimal}proxy: {ttl: 0}`)).toEqual([]);
    expect(texts.warnedKeys(`${minimal}proxy: {ttl: 0s}`)).toEqual([]);
    expect(texts.warnedKeys(minimal)).toEqual([]);
  });
});

describe('what guards access', () => {
  it.each([
    ['auth.silly', 'auth: {silly: }'],
    ['auth.ldap', 'auth: ldap'],
    [
      'http.tls.clientauth',
      'http: {tls: {certificate: config.yml, key: config.yml, clientcas: [config.yml], clientauth: request-client-cert}}',
    ],
    ['http.tls.letsencrypt', 'http: {tls: {letsencrypt: {email: a@b}}}'],
    ['proxy.remotenamespace', 'proxy: {remoteurl: http://a, remotenamespace: x}'],
  ])('is refused where it is not supported: %s', (key, section) => {
    expect(texts.faultyKeys(minimal + section)).toEqual([key]);
  });

  it('is refused from the environment too', () => {
    expect(texts.faultyKeys(minimal, { REGISTRY_AUTH: 'silly' })).toEqual(['auth.silly']);
    expect(texts.faultyKeys(minimal, { REGISTRY_AUTH_LDAP_URL: 'x' })).toEqual(['auth.ldap']);
    expect(texts.faultyKeys(minimal, { REGISTRY_HTTP_TLS_LETSENCRYPT_EMAIL: 'x' })).toEqual([
      'http.tls.letsencrypt',
    ]);
  });

  it('needs its file', () => {
    mkdirSync(join(texts.folder, 'directory'), { recursive: true });
    const htpasswd = (path: string) => `${minimal}auth: {htpasswd: {realm: r, path: ${path}}}`;
    expect(texts.load(htpasswd('config.yml')).config.auth).toEqual({
      htpasswd: { realm: 'r', path: join(texts.folder, 'config.yml') },
    });
    expect(texts.failure(htpasswd('nowhere')).faults[0]?.got).toContain('does not exist');
    expect(texts.failure(htpasswd('directory')).faults[0]?.got).toContain('is a folder');
    expect(texts.faultyKeys(`${minimal}auth: {htpasswd: }`)).toEqual([
      'auth.htpasswd.realm',
      'auth.htpasswd.path',
    ]);
  });

  it('may be nothing', () => {
    expect(texts.load(`${minimal}auth: none`).config.auth).toBeUndefined();
    expect(texts.load(minimal, { REGISTRY_AUTH: 'none' }).config.auth).toBeUndefined();
  });

  it('wants a certificate and its key, both', () => {
    const tls = (keys: string) => `${minimal}http: {tls: {${keys}}}`;
    expect(
      texts.load(tls('certificate: config.yml, key: config.yml, minimumtls: tls1.3')).config.http.tls,
    ).toEqual({
      certificate: join(texts.folder, 'config.yml'),
      key: join(texts.folder, 'config.yml'),
      minimumtls: 'TLSv1.3',
      clientcas: [],
    });
    expect(texts.faultyKeys(tls('certificate: config.yml'))).toEqual(['http.tls.key']);
    expect(texts.faultyKeys(tls('key: config.yml'))).toEqual(['http.tls.certificate']);
    expect(texts.faultyKeys(tls('minimumtls: tls1.2'))).toEqual(['http.tls.certificate', 'http.tls.key']);
    expect(texts.faultyKeys(tls('certificate: nowhere, key: config.yml'))).toEqual(['http.tls.certificate']);
  });
});
