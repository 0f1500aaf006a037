import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { ConfigError } from './faults.js';
import { loadConfig } from './load.js';

async function load(text: string) {
  const folder = await mkdtemp(join(tmpdir(), 'secrets-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'f'), 'a secret');
  await writeFile(join(folder, 'config.yml'), `version: 0.1\n${text}\n`);
  return loadConfig({ path: 'config.yml', env: {}, cwd: folder });
}

const disk = 'storage: {filesystem: {}}';
const s3 = (keys: string) => `storage: {s3: {region: r, bucket: b, ${keys}}}`;

it.each([
  [`${disk}\nredis: {addr: a:1, password: p, passwordfile: f}`, 'redis.passwordfile'],
  [`${disk}\nredis: {addr: a:1, sentinelpassword: p, sentinelpasswordfile: f}`, 'redis.sentinelpasswordfile'],
  [`${disk}\ncluster: {secret: s, secretfile: f}`, 'cluster.secretfile'],
  [s3('accesskey: a, accesskeyfile: f, secretkey: s'), 'storage.s3.accesskeyfile'],
  [s3('accesskeyfile: f'), 'storage.s3.secretkey'],
  [s3('secretkeyfile: f'), 'storage.s3.accesskey'],
  [s3('sessiontokenfile: f'), 'storage.s3.accesskey'],
  [s3('accesskeyfile: nowhere, secretkey: s'), 'storage.s3.accesskeyfile'],
  [`${disk}\nproxy: {remoteurl: http://a, username: u, password: p, exec: {command: c}}`, 'proxy.exec'],
  [`${disk}\nproxy: {remoteurl: http://a, exec: {}}`, 'proxy.exec.command'],
  [`${disk}\nproxy: {remoteurl: http://a, dockerconfigjson: nowhere}`, 'proxy.dockerconfigjson'],
  [`${disk}\nproxy: {upstreams: [{host: h, url: http://a, exec: {command: c, lifetme: 1h}}]}`, 'lifetme'],
])('a secret comes from one place, which is there: %s', async (text, key) => {
  const error = await load(text).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).faults.map((fault) => fault.key)).toEqual([expect.stringContaining(key)]);
});

it('a key of S3 may be in the configuration and the other in a file', async () => {
  const { config, warnings } = await load(s3('accesskey: a, secretkeyfile: f'));
  expect(config.storage).toMatchObject({
    s3: { secretkeyfile: expect.stringMatching(/^\/.*\/f$/) as unknown },
  });
  expect(warnings).toEqual([]);
});

it('a credential helper has a lifetime, or none', async () => {
  const { config } = await load(
    `${disk}\nproxy: {remoteurl: http://a, exec: {command: c}, upstreams: [{host: h, url: http://b, exec: {command: d, lifetime: 1h}}]}`,
  );
  expect(config.proxy.default?.exec).toEqual({ command: 'c', lifetime: undefined });
  expect(config.proxy.upstreams[0]?.exec).toEqual({ command: 'd', lifetime: 3_600_000 });
});
