import { once } from 'node:events';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { GetObjectCommand } from '@aws-sdk/client-s3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { adminKey } from '../../src/admin/access.js';
import { loadConfig } from '../../src/config/load.js';
import { basicOf, startPrivateRegistry, user } from '../credentials/private-registry.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { makeOwnCertificate } from '../parts/certificates.js';
import { cephParts, startCephRgw } from '../parts/ceph-rgw.js';
import { startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { untilIdle } from '../parts/mirror.js';
import { freePort } from '../parts/ports.js';
import { startRedis } from '../parts/redis.js';

/** Each of a place of its own in the configuration, and nowhere else. */
const secrets = {
  clients: 'clients-dGhlIGNsaWVudHM',
  mistyped: 'mistyped-bWlzdHlwZWQ',
  helper: 'helper-dGhlIGhlbHBlcg',
  upstream: 'upstream-dXBzdHJlYW0',
  passwordfile: 'passwordfile-ZmlsZQ',
  further: 'further-ZnVydGhlcg',
  dockerconfig: 'dockerconfig-anNvbg',
  environment: 'environment-ZW52',
  redis: 'redis-cmVkaXM',
  sentinel: 'sentinel-c2VudA',
  cluster: 'cluster-Y2x1c3Rlcg',
  health: 'health-aGVhbHRo',
} as const;

/** As it is, and as it stands in URLs, JSON and the Basic scheme. */
function formsOf(secret: string): string[] {
  const basic = ['mirror', 'dev', user].map((name) => basicOf(name, secret).slice('Basic '.length));
  return [secret, encodeURIComponent(secret), Buffer.from(secret).toString('base64'), ...basic];
}

function expectNone(text: string, more: readonly string[]): void {
  const all = [...Object.values(secrets).flatMap(formsOf), ...more];
  expect(all.filter((secret) => text.includes(secret))).toEqual([]);
}

async function answerOf(
  url: string,
  secret: string,
): Promise<{ status: number; text: string; location: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{
    status: number;
    text: string;
    location: string;
  }>();
  const headers = { authorization: basicOf('dev', secret) };
  get(url, { rejectUnauthorized: false, headers }, (response) => {
    let text = JSON.stringify({ ...response.headers, location: undefined });
    response.on('data', (chunk) => (text += String(chunk)));
    response.once('error', reject);
    const { statusCode: status = 0 } = response;
    response.once('end', () => resolve({ status, text, location: response.headers.location ?? '' }));
  }).once('error', reject);
  return promise;
}

describe.skipIf(lacks('docker-registry', 'openssl', 'redis-server', ...cephParts))(
  'no secret of a configuration that uses all of them',
  () => {
    it('is in the log, an answer, the metrics, the admin API, or the configuration as it prints', async () => {
      await using folder = await temporaryFolder();
      const write = async (name: string, text: string): Promise<string> => {
        await writeFile(join(folder.path, name), text);
        return join(folder.path, name);
      };
      const command = await write(
        'helper',
        `#!/bin/sh\necho "$HELPER_SECRET: asked" >&2\necho '{"Username":"${user}","Secret":"${secrets.helper}"}'\n`,
      );
      await chmod(command, 0o755);
      await using registry = await startPrivateRegistry('htpasswd');
      const image = imageOf({ layers: [randomLayer(50_000, 'all')] });
      await registry.push('team/app', 'v1', image);
      await registry.changePassword(secrets.helper);
      await using parrot = await FakeUpstream.start();
      const echo = Object.values(secrets).join(' ');
      for (const status of [401, 403, 500]) {
        const challenge = { 'www-authenticate': `Basic realm="${echo}"`, 'x-echo': echo };
        parrot.fault(
          { path: new RegExp(`s${status}`) },
          { answer: { status, body: echo, headers: challenge } },
        );
      }
      await using redis = await startRedis({ args: ['--requirepass', secrets.redis] });
      await using rgw = await startCephRgw();
      const pair = await makeOwnCertificate(folder.path, 'mirror');
      const checked = createServer((_, response) => response.writeHead(500).end(echo));
      checked.listen(0, '127.0.0.1');
      await once(checked, 'listening');
      onTestFinished(() => void checked.close());

      const named = (host: string, more: object) => ({ host, url: parrot.url, ...more });
      const bucket = await rgw.newBucket();
      const { secretkey, ...s3 } = rgw.settings(bucket);
      const auth = Buffer.from(`mirror:${secrets.dockerconfig}`).toString('base64');
      const env = { HELPER_SECRET: secrets.helper, REGISTRY_PROXY_UPSTREAMS_3_PASSWORD: secrets.environment };
      await using cistern = await startCistern({
        env,
        config: {
          http: { tls: pair },
          storage: {
            s3: { ...s3, secretkeyfile: await write('s3', String(secretkey)) },
            cache: { blobdescriptor: 'redis' },
          },
          auth: {
            htpasswd: { realm: 'm', path: await writeHtpasswd({ dev: secrets.clients }, folder.path) },
          },
          health: {
            http: [
              {
                uri: `http://127.0.0.1:${(checked.address() as AddressInfo).port}/`,
                headers: { Authorization: [`Bearer ${secrets.health}`] },
                interval: '1s',
              },
            ],
          },
          redis: {
            addr: redis.addr,
            passwordfile: await write('redis', secrets.redis),
            sentinelpassword: secrets.sentinel,
          },
          cluster: { addr: `127.0.0.1:${await freePort()}`, secret: secrets.cluster },
          proxy: {
            remoteurl: registry.url,
            freshness: '1ms',
            exec: { command, lifetime: '1s' },
            dockerconfigjson: await write(
              'docker',
              JSON.stringify({ auths: { [new URL(parrot.url).host]: { auth } } }),
            ),
            spool: { directory: join(folder.path, 'spool') },
            upstreams: [
              named('a.example', {
                username: 'mirror',
                password: secrets.upstream,
                credentials: [{ username: 'mirror', password: secrets.further }],
              }),
              named('b.example', {
                username: 'mirror',
                passwordfile: await write('password', secrets.passwordfile),
              }),
              named('c.example', {}),
              named('d.example', { username: 'mirror' }),
            ],
          },
        },
      });
      const told: string[] = [];
      const signatures: string[] = [];
      const ask = async (path: string, secret: string = secrets.clients): Promise<number> => {
        const { status, text, location } = await answerOf(`${cistern.url}/v2/${path}`, secret);
        told.push(text);
        const signature = /X-Amz-Signature=([0-9a-f]+)/.exec(location)?.[1];
        if (signature !== undefined) signatures.push(signature);
        return status;
      };
      expect(await ask('team/app/manifests/v1')).toBe(200);
      await ask(`team/app/blobs/${image.config.digest}`);
      await untilIdle(cistern);
      await expect.poll(() => ask(`team/app/blobs/${image.config.digest}`)).toBe(307);
      expect(await ask('team/app/manifests/v1', secrets.mistyped)).toBe(401);
      for (const host of ['a', 'b', 'c', 'd']) {
        for (const status of [401, 403, 500]) {
          for (const path of ['manifests/v1', 'tags/list', `blobs/${image.config.digest}`]) {
            expect(await ask(`${host}.example/team/s${status}/${path}`)).toBeGreaterThanOrEqual(400);
          }
        }
      }
      const sent = JSON.stringify(parrot.asked().map(({ headers }) => headers.authorization));
      for (const name of ['upstream', 'further', 'passwordfile', 'dockerconfig', 'environment'] as const) {
        expect(sent, `${name} was really used`).toContain(basicOf('mirror', secrets[name]));
      }
      const stored = await rgw.client.send(
        new GetObjectCommand({ Bucket: bucket, Key: 'cistern/cluster.json' }),
      );
      const identity = JSON.parse((await stored.Body?.transformToString()) ?? '') as { secret: string };
      const { token } = adminKey(identity.secret);
      const page = async (path: string, authorization = ''): Promise<number> => {
        const answer = await fetch(cistern.debugUrl + path, { headers: { authorization } });
        told.push(await answer.text());
        return answer.status;
      };
      expect(await page('/admin/v1/jobs', `Bearer ${token}`)).toBe(200);
      expect(await page('/admin/v1/images', `Bearer ${token}`)).toBe(200);
      expect(await page('/admin/v1/jobs', `Bearer ${secrets.mistyped}`)).toBe(401);
      await redis.kill();
      await rgw.stopGateway();
      await registry.changePassword('another');
      await writeFile(command, `#!/bin/sh\necho "no ${secrets.helper} $HELPER_SECRET"; exit 1\n`);
      await expect.poll(() => ask('team/other/manifests/v1')).toBe(503);
      await expect.poll(() => cistern.log()).toContain('redis cannot be used');
      for (const path of ['/metrics', '/debug/health', '/healthz']) await page(path);
      await cistern.stop();

      const config = loadConfig({
        path: cistern.configFile,
        env: { ...env, REGISTRY_PROXY_UPSTREAMS_3_PASSWORD: secrets.environment },
        cwd: folder.path,
      });
      told.push(JSON.stringify(config), inspect(config, { depth: Infinity, showHidden: true }));
      expect(signatures.length).toBeGreaterThan(0);
      const keyLines = (await readFile(pair.key, 'utf8'))
        .split('\n')
        .filter((line) => /^[\w+/=]{20,}$/.test(line));
      expectNone([cistern.log(), ...told].join('\n'), [
        String(secretkey),
        identity.secret,
        token,
        ...signatures,
        ...keyLines,
      ]);
    });
  },
);
