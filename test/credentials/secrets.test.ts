import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { identityOf } from '../parts/sealed.js';
import { runCistern, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { basicOf, password, startPrivateRegistry, user } from './private-registry.js';
import { startWitness } from './witness.js';

const clientPassword = 'th3 clients öwn';
const wrongPassword = 'a mistyped öne';

/** As they are, and as they stand in headers, URLs and JSON. */
function formsOf(name: string, secret: string): string[] {
  return [
    secret,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    Buffer.from(secret).toString('base64'),
    basicOf(name, secret).slice('Basic '.length),
  ];
}

function expectNone(text: string, secrets: readonly string[]): void {
  for (const secret of secrets) expect(text).not.toContain(secret);
}

describe.skipIf(lacks('docker-registry', 'openssl'))('no secret is told', () => {
  it.each(['htpasswd', 'token server'] as const)(
    'by the log, an answer or the metrics, with an upstream behind a %s',
    async (protection) => {
      await using folder = await temporaryFolder();
      await using registry = await startPrivateRegistry(protection);
      const image = imageOf({ layers: [randomLayer(50_000, 'told')] });
      await registry.push('team/app', 'v1', image);
      await registry.push('team/later', 'v1', image);
      // It repeats what it was sent, as a debugging proxy might; and it sends whoever asks to signed addresses.
      await using parrot = await FakeUpstream.start();
      const echo = JSON.stringify({
        errors: [{ code: 'DENIED', message: `${basicOf(user, password)} ${password}`, detail: password }],
      });
      await using storage = await startWitness({ status: 500, body: 'no' });
      for (const status of [400, 403, 429, 500]) {
        parrot.fault(
          { path: new RegExp(`^/v2/team/s${status}/`) },
          { answer: { status, body: echo, headers: { 'x-echo': basicOf(user, password) } } },
        );
      }
      parrot.fault(
        { path: /^\/v2\/team\/signed\// },
        { redirect: `${storage.url}/a?X-Amz-Signature=s1gnature` },
      );
      parrot.fault(
        { path: /^\/v2\/team\/realm\// },
        {
          answer: {
            status: 401,
            headers: {
              'www-authenticate': `Bearer realm="${storage.url}/t?key=s1gnature",service="s1gnature"`,
            },
          },
        },
      );
      await using cistern = await startCistern({
        root: join(folder.path, 'root'),
        config: {
          auth: {
            htpasswd: { realm: 'mirror', path: await writeHtpasswd({ dev: clientPassword }, folder.path) },
          },
          proxy: {
            remoteurl: registry.url,
            freshness: '1ms',
            username: user,
            password,
            upstreams: [{ host: 'parrot.example', url: parrot.url, username: user, password }],
          },
        },
      });
      const told: string[] = [];
      const get = async (path: string, clientSecret = clientPassword): Promise<number> => {
        const answer = await fetch(`${cistern.url}/v2/${path}`, {
          headers: { authorization: basicOf('dev', clientSecret) },
        });
        told.push(JSON.stringify([...answer.headers]), await answer.text());
        return answer.status;
      };

      expect(await get('team/app/manifests/v1')).toBe(200);
      expect(await get(`team/app/blobs/${image.config.digest}`)).toBe(200);
      expect(await get('team/app/manifests/v1', wrongPassword)).toBe(401);
      for (const name of ['s400', 's403', 's429', 's500', 'signed', 'realm']) {
        expect(await get(`parrot.example/team/${name}/manifests/v1`)).toBeGreaterThanOrEqual(400);
        expect(await get(`parrot.example/team/${name}/blobs/${image.config.digest}`)).toBeGreaterThanOrEqual(
          400,
        );
        expect(await get(`parrot.example/team/${name}/tags/list`)).toBeGreaterThanOrEqual(400);
      }
      await registry.changePassword('another one');
      expect(await get('team/later/manifests/v1')).toBe(503);
      for (const page of ['/metrics', '/debug/health']) {
        told.push(await (await fetch(cistern.debugUrl + page)).text());
      }
      await cistern.stop();

      const identity = await identityOf(cistern.root);
      const upstreamSecrets = [...formsOf(user, password), ...registry.issued(), identity.secret];
      const clientSecrets = [...formsOf('dev', clientPassword), ...formsOf('dev', wrongPassword)];
      expect(registry.issued().length > 0).toBe(protection === 'token server');
      expectNone([cistern.log(), ...told].join('\n'), [...upstreamSecrets, ...clientSecrets, 's1gnature']);
      // What clients say who they are is for the mirror alone.
      const forwarded = parrot.asked().map(({ headers }) => JSON.stringify(headers));
      expectNone(forwarded.join('\n'), clientSecrets);
      expectNone(storage.heard(), [...upstreamSecrets, ...clientSecrets]);
    },
  );

  it('when the configuration is refused', async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'config.yml');
    const config = {
      version: 0.1,
      storage: { filesystem: { rootdirectory: folder.path } },
      http: { addr: '127.0.0.1:0' },
      redis: { addr: 'nowhere', password: [password] },
      proxy: {
        remoteurl: `http://${user}:${encodeURIComponent(password)}@127.0.0.1:9`,
        username: user,
        password: { value: password },
        pasword: password,
        upstreams: [
          { host: 'a.example', url: 'http://127.0.0.1:9', password: [password], passwort: password },
        ],
      },
    };
    await writeFile(path, JSON.stringify(config));
    const { code, stdout, stderr } = await runCistern(['serve', path], {
      env: { REGISTRY_PROXY_PASSWORT: password, REGISTRY_HTTP_SECRET: password },
    });
    expect(code).toBe(2);
    expect(stderr).toContain('proxy.password');
    expectNone(stdout + stderr, formsOf(user, password));
  });
});
