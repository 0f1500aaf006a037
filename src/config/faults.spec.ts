import { join } from 'node:path';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { ConfigTexts, minimal } from '../../test/compat/config-text.js';
import { ConfigError, formatFaults } from './faults.js';
import { keysOf } from './key.js';
import { loadConfig } from './load.js';
import { root } from './schema.js';

const texts = new ConfigTexts();

describe('faults', () => {
  it('are told all at once', () => {
    const keys = texts.faultyKeys(
      `version: 0.2
log: {level: loud, formatter: xml}
storage: {filesystem: {rootdirectory: [a]}, cache: {blobdescriptor: memcached}}
http: {addr: 5000, headers: {X-A: nosniff, 'bad name': [x]}, draintimeout: -1s, debug: {addr: here}}
health: {tcp: [{addr: x, interval: often}], http: [{uri: ftp://x}]}
proxy: {remoteurl: registry-1.docker.io, freshness: 1y, spool: {maxsize: huge}, upstreams: [{url: http://a}, text]}
redis: {db: first, addrs: {a: b}}
`,
      { REGISTRY_HTTP_DRAINDELAY: 'x' },
    );
    expect(keys.toSorted()).toEqual(
      [
        'version',
        'log.level',
        'log.formatter',
        'storage.filesystem.rootdirectory',
        'storage.cache.blobdescriptor',
        'http.addr',
        'http.headers.X-A',
        'http.headers.bad name',
        'http.draintimeout',
        'http.draindelay',
        'http.debug.addr',
        'health.tcp[0].addr',
        'health.tcp[0].interval',
        'health.http[0].uri',
        'proxy.remoteurl',
        'proxy.freshness',
        'proxy.spool.maxsize',
        'proxy.upstreams[0].host',
        'proxy.upstreams[1]',
        'redis.db',
        'redis.addrs',
      ].toSorted(),
    );
  });

  it('say what the key got and what it wants', () => {
    expect(formatFaults(texts.failure('version: 0.1\nstorage: {delete: {enabled: maybe}}'))).toBe(
      `${join(texts.folder, 'config.yml')}: 2 faults in the configuration:\n` +
        '  storage.delete.enabled: got "maybe"; wanted true or false\n' +
        '  storage: got no driver; wanted filesystem or s3',
    );
  });

  it('of the syntax say where', () => {
    expect(texts.failure('version: 0.1\nlog:\n  level: info\n bad: x\n').faults[0]?.key).toMatch(
      /^line [34], column \d+$/,
    );
    expect(texts.faultyKeys('')).toEqual(['configuration file']);
    expect(texts.faultyKeys('- a')).toEqual(['configuration file']);
    expect(texts.faultyKeys('a: *b')).toHaveLength(1);
    expect(texts.faultyKeys('a: &b [*b]')).toHaveLength(1);
    expect(texts.failure('version: 0.1\nversion: 0.1').faults[0]?.got).toBe('a key that is already there');
  });

  it('name the file that is not there', () => {
    const missing = join(texts.folder, 'none.yml');
    const error = (env: NodeJS.ProcessEnv, path?: string) => {
      expect(() => loadConfig({ path, env, cwd: texts.folder })).toThrow(ConfigError);
      expect(() => loadConfig({ path, env, cwd: texts.folder })).toThrow(missing);
    };
    error({}, missing);
    error({}, 'none.yml');
    error({ REGISTRY_CONFIGURATION_PATH: missing });
    expect(() => loadConfig({ path: texts.folder, env: {}, cwd: texts.folder })).toThrow(ConfigError);
  });
});

describe('secrets', () => {
  const secretText = fc.string({ minLength: 6, maxLength: 20 }).map((text) => `s3cr${text}et`);

  it('print as hidden', () => {
    const { config } = texts.load(
      `${minimal}proxy: {remoteurl: http://a, username: u, password: s3cret1, credentials: [{username: v, password: s3cret2}]}`,
    );
    const secrets = config.proxy.default?.credentials.map(({ password }) => password);
    expect(secrets?.map((secret) => secret?.reveal())).toEqual(['s3cret1', 's3cret2']);
    expect(`${inspect(config, { depth: 9 })}${JSON.stringify(config)}${secrets}`).not.toContain('s3cret');
  });

  it('are in no fault and no warning, however wrong the rest is', () => {
    fc.assert(
      fc.property(secretText, (secret) => {
        const value = JSON.stringify(secret);
        const attempts: [string, NodeJS.ProcessEnv?][] = [
          [
            `${minimal}proxy: {password: ${value}, passwordfile: x, upstreams: [{password: ${value}, bad: ${value}}]}`,
          ],
          [`${minimal}proxy: {password: [${value}], remoteurl: ${JSON.stringify(`https://u:${secret}@a`)}}`],
          [
            `${minimal}redis: {password: {a: ${value}}, sentinelpassword: ${value}, db: x}\ncluster: {secret: [${value}]}`,
          ],
          [
            `${minimal}http: {secret: ${value}, addr: x}\nhealth: {http: [{uri: x, headers: {Authorization: ${value}}}]}`,
          ],
          [`${minimal}proxy: {password: ${secret}\n`],
          [`${minimal}proxy: ${value}\nauth: {token: {key: ${value}}}\nstorage: {s3: {secretkey: ${value}}}`],
          [minimal, { REGISTRY_PROXY_PASSWORD: secret, REGISTRY_PROXY_USERNAME: '[' }],
          [minimal, { REGISTRY_PROXY_PASSWORD: `*${secret}`, REGISTRY_STORAGE_S3_SECRETKEY: secret }],
          [minimal, { REGISTRY_PROXY_PASSWORD: `{a: ${secret}`, REGISTRY_PROXY_PASWORD: secret }],
        ];
        for (const [yaml, env] of attempts) {
          expect(JSON.stringify(texts.outcome(yaml, env ?? {}))).not.toContain('s3cr');
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('anything that YAML can say', () => {
  const names = Array.from(keysOf(root), ({ path }) => path.split(/[.[\]]+/).at(-1) ?? '').filter(
    (name) => name !== '',
  );
  const key = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...names) },
    { weight: 1, arbitrary: fc.string() },
  );
  const leaf = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.constantFrom('0.1', '10s', 'redis', 'a:1', 'none'),
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      leaf,
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(key, tie('tree'), { maxKeys: 5 }),
    ),
  }));
  const sections = fc.dictionary(fc.constantFrom(...Object.keys(root.children)), tree, { maxKeys: 6 });
  const variables = fc.dictionary(
    fc.oneof(
      fc.constantFrom(...Array.from(keysOf(root), ({ variable }) => variable)),
      fc.string().map((text) => `REGISTRY_${text}`),
    ),
    fc.oneof(
      fc.string(),
      tree.map((value) => stringify(value)),
    ),
    { maxKeys: 4 },
  );

  it('loads, or is told to be wrong', () => {
    fc.assert(
      fc.property(sections, variables, (yaml, env) => {
        const { faults } = texts.outcome(stringify({ version: 0.1, storage: 'filesystem', ...yaml }), env);
        for (const { key, got, wanted } of faults) expect([key, got, wanted]).not.toContain('');
        expect(JSON.stringify(faults)).not.toMatch(/Invalid|expected/);
      }),
      { numRuns: 1000 },
    );
  });

  it('and so does any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...':-[]{}&*!|>%@`"\'#,? \n\tab01<~') }), (text) => {
        expect(texts.outcome(text).faults).not.toEqual([]);
      }),
      { numRuns: 1000 },
    );
  });
});
