import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';
import { formatFaults } from './faults.js';
import { keysOf, type Key } from './key.js';
import { root } from './schema.js';

const texts = new ConfigTexts();
const keys = [...keysOf(root)].filter(({ facts }) => facts.form !== 'ignored' && facts.form !== 'refused');
const guards = keys.filter(({ facts }) => facts.guard !== undefined);

/** A tree that has only this value, at a path such as `proxy.upstreams[].host`. */
function written(path: string, value: unknown): Record<string, unknown> {
  const [step = '', ...rest] = path.split('.');
  const name = step.replace('[]', '');
  if (rest.length === 0) return { [name]: value };
  const inside = written(rest.join('.'), value);
  return { [name]: step.endsWith('[]') ? [inside] : inside };
}

function yamlOf({ path }: Key, value: unknown): string {
  return stringify({ version: '0.1', ...storageFor(path), ...written(path, value) });
}

const storageFor = (path: string) =>
  path.startsWith('storage.') ? {} : { storage: { filesystem: { rootdirectory: '/data' } } };

const numbered = ({ path }: Key): string => path.replaceAll('[]', '[0]');

/** Keys that are not guards: if empty, they count as absent, as in registry. All other keys are guards. */
const harmless = `
version loglevel
log log.level log.formatter log.fields log.accesslog log.accesslog.disabled
storage storage.filesystem storage.filesystem.rootdirectory storage.s3 storage.s3.region storage.s3.bucket
storage.s3.regionendpoint storage.s3.forcepathstyle storage.s3.accesskey storage.s3.accesskeyfile
storage.s3.secretkey storage.s3.secretkeyfile storage.s3.sessiontoken storage.s3.sessiontokenfile
storage.s3.rootdirectory storage.s3.chunksize storage.s3.localcopies storage.s3.keyid storage.s3.storageclass
storage.s3.objectacl storage.s3.secure storage.s3.skipverify storage.s3.ca storage.s3.useragent
storage.s3.accelerate storage.s3.usedualstack storage.cache storage.cache.blobdescriptor
storage.cache.layerinfo storage.delete storage.delete.enabled storage.redirect
storage.redirect.disable
http http.addr http.net http.prefix http.headers http.draintimeout http.draindelay http.limits
http.limits.requests http.limits.connections http.limits.burst http.limits.headersize http.limits.urlsize
http.limits.headertimeout http.limits.readtimeout http.limits.idletimeout http.tls.minimumtls http.debug
http.debug.addr http.debug.prometheus http.debug.prometheus.enabled http.debug.prometheus.path
auth.htpasswd auth.token
health health.storagedriver health.storagedriver.enabled health.storagedriver.interval
health.storagedriver.threshold health.file health.file[].file health.file[].interval health.file[].threshold
health.http health.http[].uri health.http[].headers health.http[].statuscode health.http[].timeout
health.http[].interval health.http[].threshold health.tcp health.tcp[].addr health.tcp[].timeout
health.tcp[].interval health.tcp[].threshold
proxy proxy.remoteurl proxy.username proxy.password proxy.passwordfile proxy.exec proxy.exec.command
proxy.exec.lifetime proxy.credentials proxy.credentials[].username proxy.credentials[].password
proxy.credentials[].passwordfile proxy.dockerconfigjson proxy.pullsecrets proxy.pullsecrets[].namespace
proxy.pullsecrets[].name proxy.access[].anonymous proxy.ca proxy.ttl proxy.host proxy.freshness proxy.maxsize
proxy.minfree proxy.maxblobsize proxy.maxtransfers proxy.ranges proxy.ranges.connections proxy.ranges.minsize
proxy.siblings proxy.spool proxy.spool.directory proxy.spool.maxsize proxy.upstreams proxy.upstreams[].host
proxy.upstreams[].url proxy.upstreams[].hosts proxy.upstreams[].username proxy.upstreams[].password
proxy.upstreams[].passwordfile proxy.upstreams[].exec proxy.upstreams[].exec.command
proxy.upstreams[].exec.lifetime proxy.upstreams[].credentials proxy.upstreams[].credentials[].username
proxy.upstreams[].credentials[].password proxy.upstreams[].credentials[].passwordfile
proxy.upstreams[].access[].anonymous proxy.upstreams[].ca proxy.upstreams[].ranges
proxy.upstreams[].ranges.connections proxy.upstreams[].ranges.minsize proxy.upstreams[].siblings
proxy.upstreams[].ttl
redis redis.addr redis.addrs redis.mastername redis.username redis.password redis.passwordfile
redis.sentinelusername redis.sentinelpassword redis.sentinelpasswordfile redis.sentinel redis.sentinel.mastername
redis.sentinel.addrs redis.db redis.dialtimeout redis.readtimeout redis.writetimeout
cluster cluster.addr cluster.advertise cluster.locktimeout cluster.kubeconfig
scheduler scheduler.enabled scheduler.grace scheduler.expire scheduler.expire.schedule scheduler.evict
scheduler.evict.schedule scheduler.reindex scheduler.reindex.schedule scheduler.sweep scheduler.sweep.schedule
scheduler.scrub scheduler.scrub.schedule scheduler.scrub.rate scheduler.prewarm scheduler.prewarm.schedule
scheduler.prewarm.images scheduler.prewarm.images[].image scheduler.prewarm.images[].platforms scheduler.inuse
scheduler.inuse.keep scheduler.inuse.kubernetes scheduler.inuse.kubernetes.enabled
scheduler.inuse.kubernetes.namespaces scheduler.inuse.kubernetes.prewarm scheduler.inuse.docker
scheduler.inuse.docker.socket scheduler.inuse.docker.interval scheduler.inuse.docker.prewarm
`;

it('every key of the schema is a guard or is listed as harmless', () => {
  const others = keys.filter((key) => !guards.includes(key)).map(({ path }) => path);
  expect(others.toSorted()).toEqual(harmless.split(/\s/).filter(Boolean).toSorted());
});

describe.each(guards.map((key) => [key.path, key] as const))('%s', (_, key) => {
  const empties: readonly unknown[] = [null, '', '   ', '\t\n', {}, []];

  it.each(empties.map((value) => [JSON.stringify(value), value] as const))(
    'stops the start when the file has %s for it',
    (_name, value) => {
      expect(texts.faultyKeys(yamlOf(key, value))).toContain(numbered(key));
    },
  );

  it('stops the start when an alias or a merge leaves it empty', () => {
    const alias = yamlOf(key, '@alias').replace(/["']@alias["']/, '*nothing');
    expect(texts.faultyKeys(`log: {fields: {a: &nothing }}\n${alias}`)).toContain(numbered(key));
    const merge = yamlOf(key, { '@merge': 1 }).replace(/["']@merge["']: 1/, '<<: *nothing');
    expect(texts.faultyKeys(`log: {fields: &nothing {}}\n${merge}`)).toContain(numbered(key));
  });

  const isSecret = key.facts.form === 'value' && key.facts.value.secret === true;
  const yaml = isSecret ? [] : ['~', '{}', '[]', '# a comment']; // a secret is taken literally

  it.each(['', ' ', '""', ...yaml])('stops the start when its variable is %j', (value) => {
    const { faults } = texts.failure(minimal, { [key.variable]: value });
    expect(faults).toContainEqual(expect.objectContaining({ key: numbered(key), env: key.variable }));
  });

  it('says what to write, and when the key may be removed', () => {
    const line = formatFaults(texts.failure(yamlOf(key, null)))
      .split('\n')
      .find((text) => text.startsWith(`  ${numbered(key)}: got nothing; wanted `));
    const isRequired = key.facts.form === 'value' && key.facts.required === true;
    expect(line).toMatch(isRequired ? /wanted a/ : /; or remove the key if \S+/);
  });
});

describe('a guard', () => {
  it.each([
    ['auth', 'auth: {htpasswd: {}}', 'auth.htpasswd.realm'],
    ['auth', 'auth: {token: }', 'auth.token.realm'],
    ['http', 'http: {tls: {minimumtls: }}', 'http.tls'],
    ['redis', 'redis: {addr: "a:1", tls: {enabled: }}', 'redis.tls.enabled'],
  ])('stops the start when %s has no useful value: %s', (_, yaml, key) => {
    expect(texts.faultyKeys(`${minimal}${yaml}\n`)).toContain(key);
  });

  it('leaves access open when the file says none', () => {
    expect(texts.load(`${minimal}auth: none\n`).config.auth).toBeUndefined();
    expect(texts.load(`${minimal}auth: {none: }\n`).config.auth).toBeUndefined();
    expect(texts.load(minimal, { REGISTRY_AUTH: 'none' }).config.auth).toBeUndefined();
  });

  it.each(['', '{}', '~'])('is not removed with its section by a variable that is %j', (value) => {
    const yaml = `${minimal}proxy: {remoteurl: http://a, access: [{anonymous: true}]}\n`;
    expect(texts.failure(yaml, { REGISTRY_PROXY: value }).faults).toEqual([
      expect.objectContaining({ key: 'proxy', env: 'REGISTRY_PROXY', got: 'nothing' }),
    ]);
  });

  it('stops the start when its name is written with capitals', () => {
    const tls = '{certificate: config.yml, key: config.yml, clientCAs: [config.yml]}';
    expect(texts.faultyKeys(`${minimal}http: {tls: ${tls}}\n`)).toEqual(['http.tls.clientCAs']);
    expect(texts.faultyKeys(`${minimal}Auth: {htpasswd: {realm: a, path: config.yml}}\n`)).toEqual(['Auth']);
  });

  it('is changed by a variable at its own path, and not where an alias repeats it', () => {
    const grants = 'access: [{networks: [10.0.0.0/8]}]';
    const yaml = `${minimal}proxy: {upstreams: [&a {host: a, url: http://a, ${grants}}, {<<: *a, host: b}]}\n`;
    const { config } = texts.load(yaml, { REGISTRY_PROXY_UPSTREAMS_0_ACCESS_0_NETWORKS: '[192.0.2.1]' });
    expect(config.proxy.upstreams.map(({ access }) => access[0]?.networks[0]?.address)).toEqual([
      '192.0.2.1',
      '10.0.0.0',
    ]);
  });
});

describe('a file of a security setting', () => {
  const users = (path: string) => `auth: {htpasswd: {realm: a, path: ${path}}}`;
  const tokens = (key: string, path: string) =>
    `auth: {token: {realm: 'http://a', service: a, issuer: a, ${key}: ${path}}}`;
  const authorities = (path: string) =>
    `http: {tls: {certificate: config.yml, key: config.yml, clientcas: [${path}]}}`;

  it.each([
    ['auth.htpasswd.path', users],
    ['auth.token.rootcertbundle', (path: string) => tokens('rootcertbundle', path)],
    ['auth.token.jwks', (path: string) => tokens('jwks', path)],
    ['http.tls.clientcas[0]', authorities],
    ['cluster.secretfile', (path: string) => `cluster: {secretfile: ${path}}`],
    [
      'proxy.passwordfile',
      (path: string) => `proxy: {remoteurl: http://a, username: a, passwordfile: ${path}}`,
    ],
    ['redis.passwordfile', (path: string) => `redis: {addr: 'a:1', passwordfile: ${path}}`],
  ])('stops the start when it is empty: %s', (key, yaml) => {
    texts.file('empty', '');
    texts.file('blank', ' \n\n');
    for (const name of ['empty', 'blank']) {
      const { faults } = texts.failure(`${minimal}${yaml(name)}\n`);
      expect(faults).toEqual([expect.objectContaining({ key })]);
      expect(faults[0]?.got).toContain(texts.folder);
    }
  });

  it('stops the start when it has only comments', () => {
    texts.file('comments', '# ann:$2y$05$x\n\n#\n');
    for (const yaml of [users('comments'), authorities('comments'), tokens('rootcertbundle', 'comments')]) {
      expect(texts.failure(`${minimal}${yaml}\n`).faults).toHaveLength(1);
    }
  });
});
