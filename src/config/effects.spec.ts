import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';
import { keysOf } from './key.js';
import { root } from './schema.js';

/**
 * The file below `src` in which each key has its effect. A key that has none is `ignored`, and warns. `key=name`: the
 * name that the file has for it.
 */
const effects: Readonly<Record<string, string>> = {
  'telemetry/log.ts': 'log.level log.formatter log.fields',
  'registry/registry.module.ts': `
    log.accesslog.disabled auth.htpasswd.realm auth.htpasswd.path proxy.groups`,
  'storage/storage.module.ts': 'storage.filesystem.rootdirectory proxy.spool.directory',
  'storage/s3/client.ts': `
    storage.s3.region storage.s3.regionendpoint=endpoint storage.s3.forcepathstyle storage.s3.accesskey
    storage.s3.accesskeyfile storage.s3.secretkey storage.s3.secretkeyfile storage.s3.sessiontoken
    storage.s3.sessiontokenfile storage.s3.skipverify storage.s3.ca storage.s3.useragent storage.s3.accelerate
    storage.s3.usedualstack`,
  'storage/s3/objects.ts': `
    storage.s3.bucket storage.s3.rootdirectory storage.s3.encrypt storage.s3.keyid storage.s3.storageclass
    storage.s3.objectacl`,
  'storage/s3/open-bucket.ts': 'storage.s3.chunksize',
  'cli/serve.ts': `
    storage.delete.enabled http.prefix http.headers http.draintimeout http.draindelay http.debug.addr cluster.addr
    scheduler.enabled`,
  'proxy/proxy.module.ts': `
    storage.s3.localcopies storage.redirect.disable proxy.freshness proxy.maxblobsize proxy.maxtransfers
    proxy.spool.maxsize`,
  'cli/http-server.ts': `
    http.addr http.net http.trustedproxies http.limits.connections http.limits.headersize http.limits.headertimeout
    http.limits.readtimeout http.limits.idletimeout`,
  'registry/limits.ts': 'http.limits.requests http.limits.rate http.limits.burst http.limits.urlsize',
  'cli/certificates.ts': 'http.tls.certificate http.tls.key http.tls.minimumtls http.tls.clientcas',
  'health/health.module.ts': 'http.debug.prometheus.enabled http.debug.prometheus.path',
  'registry/token-authentication.ts':
    'auth.token.realm auth.token.service auth.token.issuer auth.token.signingalgorithms',
  'registry/token-keys.ts': 'auth.token.rootcertbundle auth.token.jwks',
  'health/health.ts': `
    health.storagedriver.enabled health.storagedriver.interval health.storagedriver.threshold
    health.file[].file health.file[].interval health.file[].threshold
    health.http[].uri health.http[].headers health.http[].statuscode health.http[].timeout health.http[].interval
    health.http[].threshold
    health.tcp[].addr health.tcp[].timeout health.tcp[].interval health.tcp[].threshold`,
  'upstream/upstream.module.ts': `
    proxy.remoteurl=default proxy.dockerconfigjson proxy.host proxy.upstreams[].host proxy.upstreams[].hosts`,
  'upstream/configured-credentials.ts': `
    proxy.username proxy.password proxy.passwordfile proxy.exec.command proxy.exec.lifetime
    proxy.credentials[].username proxy.credentials[].password proxy.credentials[].passwordfile
    proxy.upstreams[].username proxy.upstreams[].password proxy.upstreams[].passwordfile
    proxy.upstreams[].exec.command proxy.upstreams[].exec.lifetime
    proxy.upstreams[].credentials[].username proxy.upstreams[].credentials[].password
    proxy.upstreams[].credentials[].passwordfile`,
  'upstream/pull-secrets.ts': 'proxy.pullsecrets[].namespace proxy.pullsecrets[].name',
  'upstream/client.ts': `
    proxy.realms proxy.verifycaller proxy.redirects proxy.ca proxy.upstreams[].url proxy.upstreams[].realms
    proxy.upstreams[].verifycaller proxy.upstreams[].redirects proxy.upstreams[].ca`,
  'upstream/parallel-ranges.ts': `
    proxy.ranges.connections proxy.ranges.minsize proxy.upstreams[].ranges.connections
    proxy.upstreams[].ranges.minsize`,
  'registry/grants.ts': `
    proxy.access[].users proxy.access[].groups proxy.access[].networks proxy.access[].repositories
    proxy.upstreams[].access[].users proxy.upstreams[].access[].groups proxy.upstreams[].access[].networks
    proxy.upstreams[].access[].repositories`,
  'proxy/siblings.ts': 'proxy.siblings proxy.upstreams[].siblings',
  'content/content.module.ts': 'proxy.ttl proxy.maxsize proxy.minfree proxy.upstreams[].ttl scheduler.grace',
  'cluster/redis/connection.ts': `
    redis.addrs redis.mastername redis.username redis.password redis.passwordfile redis.sentinelusername
    redis.sentinelpassword redis.sentinelpasswordfile redis.db redis.dialtimeout redis.readtimeout
    redis.writetimeout redis.tls.certificate redis.tls.key redis.tls.clientcas`,
  'cluster/redis/redis-cluster.ts':
    'storage.cache.blobdescriptor cluster.secret cluster.secretfile cluster.locktimeout',
  'cluster/peers/advertised.ts': 'cluster.advertise',
  'kubernetes/kubernetes.module.ts': 'cluster.kubeconfig',
  'scheduler/scheduler.module.ts': `
    scheduler.expire.schedule scheduler.evict.schedule scheduler.reindex.schedule scheduler.sweep.schedule
    scheduler.scrub.schedule scheduler.prewarm.schedule`,
  'content/scrub.module.ts': 'scheduler.scrub.rate',
  'prewarm/image-warmer.ts': 'scheduler.prewarm.images[].image scheduler.prewarm.images[].platforms',
  'usage/usage.module.ts': 'scheduler.inuse.keep',
  'inuse/inuse.module.ts': `
    scheduler.inuse.kubernetes.enabled scheduler.inuse.kubernetes.namespaces scheduler.inuse.kubernetes.prewarm
    scheduler.inuse.docker.socket scheduler.inuse.docker.interval scheduler.inuse.docker.prewarm`,
  // Another spelling of another key, or a part of it.
  'config/normalise.ts': `
    loglevel storage.cache.layerinfo storage.s3.secure redis.addr redis.sentinel.mastername redis.sentinel.addrs
    redis.tls.enabled`,
  // Says what holds anyway: a configuration that says something else is refused.
  'config/schema.ts': `
    version http.tls.clientauth proxy.access[].anonymous proxy.upstreams[].access[].anonymous`,
};

const named = Object.entries(effects).flatMap(([file, keys]) =>
  keys
    .split(/\s/)
    .filter(Boolean)
    .map((text) => {
      const [key = '', name = key.slice(key.lastIndexOf('.') + 1)] = text.split('=');
      return { file, key, name };
    }),
);

describe('every key of the schema', () => {
  it('has an effect in a file that is named here, or is ignored or refused', () => {
    const values = [...keysOf(root)].filter(
      ({ facts }) => facts.form === 'value' || facts.form === 'headers',
    );
    expect(named.map(({ key }) => key).toSorted()).toEqual(values.map(({ path }) => path).toSorted());
  });

  it('is named in the file in which it has its effect', () => {
    const text = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8');
    const absent = named.filter(({ file, name }) => !new RegExp(`\\b${name}\\b`).test(text(file)));
    expect(absent).toEqual([]);
  });
});

describe('keys of registry without an effect', () => {
  const texts = new ConfigTexts();

  it.each([
    ['storage.cache.blobdescriptorsize', '{blobdescriptorsize: 100}'],
    ['redis.pool', '{addr: "a:1", pool: {maxidle: 16, maxactive: 64, idletimeout: 300s}}'],
    ['redis.maxidleconns', '{addr: "a:1", maxidleconns: 16}'],
    ['redis.poolsize', '{addr: "a:1", poolsize: 64}'],
    ['redis.connmaxidletime', '{addr: "a:1", connmaxidletime: 300s}'],
  ])('warn once, with the reason: %s', (key, section) => {
    const yaml = key.startsWith('redis')
      ? `${minimal}redis: ${section}`
      : `version: 0.1\nstorage: {filesystem: {rootdirectory: /data}, cache: ${section}}`;
    expect(texts.load(yaml).warnings).toEqual([
      { key, message: expect.stringMatching(/^has no effect: ./) as string },
    ]);
  });

  it('warn once as variables of the environment', () => {
    const { warnings } = texts.load(`${minimal}redis: {addr: "a:1"}`, {
      REGISTRY_REDIS_POOL_MAXIDLE: '16',
      REGISTRY_REDIS_POOL_MAXACTIVE: '64',
    });
    expect(warnings.map(({ key }) => key)).toEqual(['redis.pool']);
  });
});
