import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadConfig, type LoadedConfig } from '../../src/config/load.js';
import { temporaryFolder } from '../parts/folder.js';

const configs = fileURLToPath(new URL('./configs/', import.meta.url));
const hub = 'https://registry-1.docker.io';

/** A published configuration, unchanged but for the folder that its certificates are in. */
async function load(name: string, env: NodeJS.ProcessEnv = {}): Promise<LoadedConfig> {
  await using folder = await temporaryFolder();
  const certificates = join(folder.path, 'certs');
  await mkdir(certificates);
  for (const file of ['mirror.crt', 'mirror.key']) await writeFile(join(certificates, file), '');
  const text = await readFile(join(configs, name), 'utf8');
  const path = join(folder.path, 'config.yml');
  await writeFile(path, text.replaceAll('/certs', certificates));
  return loadConfig({ path, env, cwd: folder.path });
}

const warned = ({ warnings }: LoadedConfig) => warnings.map(({ key }) => key);

describe('configurations that people have for registry', () => {
  it.each(['swarm.yml', 'full-mirror.yml', 'debug-metrics.yml', 'hub-credentials.yml', 'tls-mirror.yml'])(
    '%s loads as the mirror that it is, without a warning but of what it opens',
    async (name) => {
      const loaded = await load(name);
      expect(warned(loaded)).toEqual(name === 'hub-credentials.yml' ? ['auth'] : []);
      expect(loaded.config.proxy.default?.url).toBe(hub);
      expect(loaded.config.storage).toMatchObject({ filesystem: { rootdirectory: '/var/lib/registry' } });
      expect(loaded.config.http.addr).toBe(':5000');
    },
  );

  it('keep what they say', async () => {
    const { config: swarm } = await load('swarm.yml');
    expect(swarm.log.fields).toEqual({ service: 'registry' });
    expect(swarm.http.headers).toEqual({ 'X-Content-Type-Options': ['nosniff'] });
    expect(swarm.health.storagedriver).toEqual({ enabled: true, interval: 10_000, threshold: 3 });
    const { config: credentials } = await load('hub-credentials.yml');
    expect(credentials.proxy.default?.credentials[0]?.password?.reveal()).toBe('some-token');
    const { config: tls } = await load('tls-mirror.yml');
    expect(tls.http.tls?.key).toMatch(/certs\/mirror\.key$/);
    const { config: metrics } = await load('debug-metrics.yml');
    expect(metrics.http.debug).toEqual({ addr: ':5001', prometheus: { enabled: true, path: '/metrics' } });
  });

  it('may name a Redis', async () => {
    const loaded = await load('redis-cache.yml');
    expect(loaded.config.redis).toMatchObject({ addrs: ['redis:6379'], readtimeout: 10 });
    expect(loaded.config.storage.cache.blobdescriptor).toBe('redis');
    expect(warned(loaded)).toEqual(['redis.pool']);
  });
});

describe('environments that people have for registry', async () => {
  const text = await readFile(join(configs, 'environments.json'), 'utf8');
  const environments = JSON.parse(text) as Record<string, Record<string, string>>;

  it.each(Object.entries(environments))('%s: every variable is taken', async (_, env) => {
    const loaded = await load('swarm.yml', env);
    expect(warned(loaded).filter((key) => key.startsWith('REGISTRY_'))).toEqual([]);
    const { REGISTRY_PROXY_REMOTEURL: remoteurl = hub } = env;
    expect(loaded.config.proxy.default?.url).toBe(remoteurl);
  });

  it('with Sentinels', async () => {
    const { config } = await load('swarm.yml', environments['Sentinels']);
    expect(config.redis?.mastername).toBe('mymaster');
    expect(config.redis?.addrs).toEqual(['sentinel1:26379', 'sentinel2:26379', 'sentinel3:26379']);
  });
});
