import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { makeCertificate, readPemPair, type CertificateFiles } from '../parts/certificates.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { startDockerd } from '../parts/dockerd.js';
import { temporaryFolder, type TemporaryFolder } from '../parts/folder.js';
import { busyboxImage, imageOf, indexOf, randomLayer } from '../parts/image.js';
import { expectSpecError } from '../parts/mirror.js';
import { skopeo, skopeoCopy } from '../parts/skopeo.js';
import { TokenServer } from '../parts/token-server.js';

let upstream: FakeUpstream;
let folder: TemporaryFolder;
const image = imageOf({ layers: [randomLayer(50_000, 'logins')] });

beforeAll(async () => {
  upstream = await FakeUpstream.start();
  folder = await temporaryFolder();
  for (const name of ['team/app', 'other/app']) upstream.addImage(name, 'v1', image);
});
afterAll(async () => {
  await upstream[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

describe.skipIf(lacks('skopeo', 'openssl'))('skopeo with tokens of a token server', () => {
  let tokens: TokenServer;
  let cistern: Cistern;
  beforeAll(async () => {
    tokens = await TokenServer.start({
      users: { ann: { password: 'right', repositories: ['team/app'] } },
      anonymous: ['other/app'],
    });
    const token = await tokens.registryAuth(folder.path);
    cistern = await startCistern({ config: { auth: { token }, proxy: { remoteurl: upstream.url } } });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await tokens[Symbol.asyncDispose]();
  });

  const copy = (repository: string, ...args: string[]) =>
    skopeoCopy(`${cistern.host}/${repository}:v1`, args);

  it('logs in and pulls what its user may', async () => {
    const login = ['login', '--tls-verify=false', '-u', 'ann', '-p', 'right', cistern.host];
    expect(await skopeo(login)).toMatchObject({ stderr: '', code: 0 });
    expect(await copy('team/app', '--src-creds=ann:right')).toMatchObject({ code: 0 });
    const lines = () => cistern.logRecords().filter(({ user }) => user === 'ann');
    await expect.poll(() => lines().length).toBeGreaterThan(0);
  });

  it('is refused with a wrong password, without any, and where its token does not lead', async () => {
    const wrong = ['login', '--tls-verify=false', '-u', 'ann', '-p', 'wrong', cistern.host];
    expect((await skopeo(wrong)).code).not.toBe(0);
    for (const args of [[], ['--src-creds=ann:wrong']]) {
      const output = await copy('team/app', ...args);
      expect(output.code).not.toBe(0);
      expect(output.stderr).toMatch(/unauthorized|authentication required|denied/i);
    }
    expect(await copy('other/app')).toMatchObject({ code: 0 });
  });

  it('everything else is challenged in the form of the specification', async () => {
    const challenge = `Bearer realm="${tokens.realm}",service="test-registry"`;
    const answer = await fetch(`${cistern.url}/v2/`);
    expect(answer.headers.get('www-authenticate')).toBe(challenge);
    await expectSpecError(answer, 401, 'UNAUTHORIZED');
    for (const [authorization, trouble] of [
      ['Bearer nonsense', 'invalid_token'],
      [tokens.issue('other/app'), 'insufficient_scope'],
    ] as const) {
      const refused = await fetch(`${cistern.url}/v2/team/app/manifests/v1`, { headers: { authorization } });
      expect(refused.headers.get('www-authenticate')).toBe(
        `${challenge},scope="repository:team/app:pull",error="${trouble}"`,
      );
      await expectSpecError(refused, 401, 'UNAUTHORIZED');
    }
  });
});

describe.skipIf(lacks('openssl'))('client certificates', () => {
  let cistern: Cistern;
  let authority: CertificateFiles;
  let certificates: Readonly<Record<'ann' | 'eve' | 'foreign', CertificateFiles>>;
  beforeAll(async () => {
    authority = await makeCertificate(folder.path, 'authority');
    const stranger = await makeCertificate(folder.path, 'stranger');
    certificates = {
      ann: await makeCertificate(folder.path, 'ann', authority),
      eve: await makeCertificate(folder.path, 'eve', authority),
      foreign: await makeCertificate(folder.path, 'foreign', stranger),
    };
    const server = await makeCertificate(folder.path, 'server', authority);
    cistern = await startCistern({
      config: {
        http: { tls: { ...server, clientcas: [authority.certificate] } },
        proxy: { remoteurl: upstream.url, access: [{ users: ['ann'] }] },
      },
    });
  });
  afterAll(() => cistern[Symbol.asyncDispose]());

  async function get(files: CertificateFiles | undefined): Promise<{ status: number; body: string }> {
    const own = files && (await readPemPair(files));
    const ca = await readFile(authority.certificate);
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>();
    request(`${cistern.url}/v2/team/app/manifests/v1`, { ...own, ca, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
      );
    })
      .on('error', reject)
      .end();
    return promise;
  }

  it('say who somebody is', async () => {
    expect(await get(certificates.ann)).toMatchObject({ status: 200 });
    expect(await get(certificates.eve)).toEqual({
      status: 403,
      body: expect.stringContaining('"DENIED"') as string,
    });
  });

  it.each(['none', 'foreign'] as const)('are needed, and not just any: %s', async (which) => {
    await expect(get(which === 'none' ? undefined : certificates.foreign)).rejects.toThrow(
      /alert|ECONNRESET|socket hang up|EPIPE/,
    );
  });
});

describe.skipIf(lacks('dockerd', 'busybox', 'docker-registry', 'root'))(
  'dockerd in an allowed network',
  () => {
    it.each(['auth', 'verifycaller'])(
      'pulls without credentials, and is never asked for any: %s',
      async (guard) => {
        const busybox = busyboxImage({ command: ['/bin/true'] });
        upstream.addImage('library/app', 'v1', indexOf([busybox]));
        const path = await writeHtpasswd({ ann: 'right' }, folder.path);
        await using cistern = await startCistern({
          config: {
            ...(guard === 'auth' ? { auth: { htpasswd: { realm: 'r', path } } } : {}),
            proxy: {
              remoteurl: upstream.url,
              access: [{ networks: ['127.0.0.0/8'], repositories: ['library/*'] }],
              verifycaller: guard === 'verifycaller',
            },
          },
        });
        await using dockerd = await startDockerd({ mirrors: [cistern.url] });
        expect(await dockerd.docker(['pull', '--quiet', 'app:v1'])).toMatchObject({ code: 0 });
        expect((await fetch(`${cistern.url}/v2/team/app/manifests/v1`)).status).toBe(403);
        const statuses = () => cistern.logRecords().map((line) => line['http.response.status']);
        await expect.poll(statuses).toContain(403);
        expect(statuses()).not.toContain(401);
      },
    );
  },
);
