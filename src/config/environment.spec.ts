import { describe, expect, it } from 'vitest';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';
import { applyEnvironment } from './environment.js';
import { formatFaults } from './faults.js';
import { keysOf, type Facts } from './key.js';
import { root } from './schema.js';
import { at } from './tree.js';

const texts = new ConfigTexts();

describe('the environment', () => {
  it('overrides keys by their path', () => {
    const { config } = texts.load(minimal, {
      REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY: '/elsewhere',
      REGISTRY_STORAGE_DELETE_ENABLED: 'true',
      REGISTRY_PROXY_REMOTEURL: 'https://registry-1.docker.io',
      REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED: 'true',
      REGISTRY_HTTP_DEBUG_ADDR: ':5001',
      REGISTRY_LOG_FIELDS_REGION: 'north',
    });
    expect(config.storage).toMatchObject({
      filesystem: { rootdirectory: '/elsewhere' },
      delete: { enabled: true },
    });
    expect(config.proxy.default?.url).toBe('https://registry-1.docker.io');
    expect(config.http.debug).toEqual({ addr: ':5001', prometheus: { enabled: true, path: '/metrics' } });
    expect(config.log.fields).toEqual({ region: 'north' });
  });

  it('is applied in the order of the names, sections before what they hold', () => {
    const { config } = texts.load('version: 0.1\nstorage: {s3: {bucket: b}}', {
      REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY: '/data',
      REGISTRY_STORAGE: 'filesystem',
    });
    expect(config.storage).toMatchObject({ driver: 'filesystem', filesystem: { rootdirectory: '/data' } });
  });

  it('replaces the driver by its name', () => {
    const { config } = texts.load(minimal, {
      REGISTRY_STORAGE: 's3',
      REGISTRY_STORAGE_S3_BUCKET: 'b',
      REGISTRY_STORAGE_S3_REGION: 'eu-central-1',
    });
    expect(config.storage).toMatchObject({ driver: 's3', s3: { bucket: 'b', region: 'eu-central-1' } });
    expect(texts.faultyKeys(minimal, { REGISTRY_STORAGE: 's3' })).toEqual([
      'storage.s3.region',
      'storage.s3.bucket',
    ]);
    expect(texts.faultyKeys(minimal, { REGISTRY_STORAGE: 'azure' })).toEqual(['storage.azure']);
  });

  it('holds YAML: lists, sections, and nothing', () => {
    const { config } = texts.load(`${minimal}http: {addr: ':1'}`, {
      'REGISTRY_HTTP_HEADERS_X-FRAME-OPTIONS': '[deny]',
      REGISTRY_PROXY_UPSTREAMS: '[{host: a, url: http://a}, {host: b, url: http://b}]',
      REGISTRY_PROXY_SPOOL: '{maxsize: 1GB}',
      REGISTRY_HTTP_ADDR: '',
    });
    expect(config.http.headers).toEqual({ 'x-frame-options': ['deny'] });
    expect(config.proxy.upstreams.map(({ host }) => host)).toEqual(['a', 'b']);
    expect(config.proxy.spool.maxsize).toBe(1e9);
    expect(config.http.addr).toBe(':5000');
  });

  it('replaces a header that is there, in whatever case', () => {
    const { config } = texts.load(`${minimal}http: {headers: {X-Frame-Options: [deny]}}`, {
      'REGISTRY_HTTP_HEADERS_X-FRAME-OPTIONS': '[sameorigin]',
    });
    expect(config.http.headers).toEqual({ 'X-Frame-Options': ['sameorigin'] });
  });

  it('changes items of a list and adds one at its end, no further', () => {
    const yaml = `${minimal}proxy: {upstreams: [{host: a, url: http://a}]}`;
    const { config } = texts.load(yaml, {
      REGISTRY_PROXY_UPSTREAMS_0_URL: 'http://other',
      REGISTRY_PROXY_UPSTREAMS_1_HOST: 'b',
      REGISTRY_PROXY_UPSTREAMS_1_URL: 'http://b',
      REGISTRY_HEALTH_FILECHECKERS_0_FILE: '/down',
    });
    expect(config.proxy.upstreams.map(({ url }) => url)).toEqual(['http://other', 'http://b']);
    expect(config.health.file[0]?.file).toBe('/down');
    expect(texts.failure(yaml, { REGISTRY_PROXY_UPSTREAMS_5_HOST: 'x' }).faults).toEqual([
      expect.objectContaining({ key: 'proxy.upstreams[5].host', env: 'REGISTRY_PROXY_UPSTREAMS_5_HOST' }),
    ]);
  });

  it('is named where its value is wrong', () => {
    const error = texts.failure(minimal, {
      REGISTRY_PROXY_FRESHNESS: 'soon',
      REGISTRY_PROXY_SPOOL: '{maxsize: much}',
    });
    expect(formatFaults(error)).toContain(
      'proxy.freshness (from REGISTRY_PROXY_FRESHNESS): got "soon"; wanted a duration',
    );
    expect(formatFaults(error)).toContain(
      'proxy.spool.maxsize (from REGISTRY_PROXY_SPOOL): got "much"; wanted a size',
    );
  });

  it('may hold names that are no keys: each is a warning with the nearest', () => {
    const { warnings } = texts.load(minimal, {
      REGISTRY_PROXY_REMOTEULR: 'x',
      REGISTRY_STORAGE_DELTE_ENABLED: 'true',
      OTHER: 'x',
    });
    expect(warnings).toEqual([
      { key: 'REGISTRY_PROXY_REMOTEULR', message: expect.stringContaining('REGISTRY_PROXY_REMOTEURL') },
      {
        key: 'REGISTRY_STORAGE_DELTE_ENABLED',
        message: expect.stringContaining('REGISTRY_STORAGE_DELETE_ENABLED'),
      },
    ]);
  });

  it('of Kubernetes never breaks the start, whatever the service is called', () => {
    const env: NodeJS.ProcessEnv = {};
    for (const service of [
      'REGISTRY',
      'REGISTRY_HTTP',
      'REGISTRY_STORAGE',
      'REGISTRY_AUTH',
      'REGISTRY_LOG_FIELDS',
      'REGISTRY_HTTP_ADDR',
    ]) {
      Object.assign(env, {
        [`${service}_SERVICE_HOST`]: '10.0.0.1',
        [`${service}_SERVICE_PORT`]: '5000',
        [`${service}_SERVICE_PORT_HTTP`]: '5000',
        [`${service}_PORT`]: 'tcp://10.0.0.1:5000',
        [`${service}_PORT_5000_TCP`]: 'tcp://10.0.0.1:5000',
        [`${service}_PORT_5000_TCP_PROTO`]: 'tcp',
        [`${service}_PORT_5000_TCP_PORT`]: '5000',
        [`${service}_PORT_5000_TCP_ADDR`]: '10.0.0.1',
      });
    }
    const { config, warnings } = texts.load(minimal, env);
    expect(config).toEqual(texts.load(minimal).config);
    expect(warnings).toHaveLength(1);
  });

  /** Where a key may stand at all. */
  const bases = [
    ['storage.s3.', 'version: 0.1\nstorage: {s3: {region: r, bucket: b}}'],
    [
      'auth.token.',
      `${minimal}auth: {token: {realm: 'https://a.example', service: s, issuer: i, jwks: /dev/null}}`,
    ],
  ] as const;
  const isSecret = (facts: Facts) => facts.form === 'value' && facts.value.secret === true;
  const variables = (form: Facts['form'], secret = false) =>
    [...keysOf(root)]
      .filter(({ facts }) => facts.form === form && isSecret(facts) === secret)
      .map(({ variable, path }) => [variable, path] as const);

  it.each(variables('ignored'))('knows %s, which is without effect', (variable, path) => {
    const [, base = minimal] = bases.find(([section]) => path.startsWith(section)) ?? [];
    expect(texts.warnedKeys(base, { [variable]: 'x' })).toContain(path);
  });

  it.each(variables('refused'))('knows %s, which is refused', (variable, path) => {
    expect(texts.faultyKeys(minimal, { [variable]: 'x' })).toContain(path);
  });

  it.each(variables('value'))('knows %s', (variable, path) => {
    const { faults } = texts.outcome(minimal, { [variable]: '{a: {}}' });
    const fault = faults.find(({ env }) => env === variable);
    expect(fault?.key).toContain(path.replaceAll('[]', '[0]'));
  });

  it.each(variables('value', true))(
    'takes %s literally, whatever YAML would make of it',
    (variable, path) => {
      for (const [given, taken] of secrets) {
        const tree = { version: '0.1' };
        expect(applyEnvironment(tree, root, { [variable]: given })).toMatchObject({ faults: [], notes: [] });
        const steps = path
          .split('.')
          .flatMap((step) => (step.endsWith('[]') ? [step.slice(0, -2), 0] : [step]));
        expect(at(tree, steps)).toBe(taken);
      }
    },
  );

  const secrets = [
    ['abc #def', 'abc #def'],
    ['#abc', '#abc'],
    ['*abc', '*abc'],
    ['!abc', '!abc'],
    ['a: b', 'a: b'],
    ['{a: {}}', '{a: {}}'],
    ['[a', '[a'],
    ['~', '~'],
    [' a ', ' a '],
    ['007', '007'],
    ['"abc', '"abc'],
    ['"a" #b"', '"a" #b"'],
    // As in registry, where quotes are the only way to write these.
    ['"a #b"', 'a #b'],
    ["'a #b'", 'a #b'],
    // A Secret that was made from a file with a newline at its end.
    ['abc\n', 'abc'],
    ['', ''],
    ['  ', ''],
  ] as const;
});
