import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { makeCertificate, type CertificateFiles } from '../parts/certificates.js';
import { type Cistern, type Settings, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { writeHtpasswd } from '../parts/docker-registry.js';
import { temporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { expectSpecError } from '../parts/mirror.js';
import type { Output } from '../parts/process.js';
import { tokenIssuer, tokenService } from '../parts/signed-token.js';
import { type Client, clientKinds, type TlsScene } from './real-clients.js';
import { TokenForge, wrongTokens } from './token-forge.js';

const own = 'team/app:v1';
const foreign = 'other/app:v1';
const right = 'ann:right';
const wrongLogins = ['ann:wrong', 'eve:right'] as const;
/** What clients say of it, each in its way. */
const forbidden = /denied|forbidden/i;
const unauthorized =
  /unauthorized|authentication required|no basic auth credentials|invalid username|authorization failed/i;
const notCovered = /unauthorized|authorization failed|denied|insufficient/i;
const noConnection = /tls: /;

const outcome = ({ code, stderr }: Output) => ({ refused: code !== 0, stderr });
const refused = (reason: RegExp) => ({ refused: true, stderr: expect.stringMatching(reason) as string });

const basic = (login: string) => ({ authorization: `Basic ${Buffer.from(login).toString('base64')}` });

describe.skipIf(lacks('openssl'))('real clients', () => {
  const cleanup = new AsyncDisposableStack();
  let jwks: string;
  let forge: TokenForge;
  let passwords: Cistern;
  let tokens: Cistern;
  let certificates: TlsScene;

  beforeAll(async () => {
    const folder = cleanup.use(await temporaryFolder()).path;
    const upstream = cleanup.use(await FakeUpstream.start());
    const image = imageOf({ layers: [randomLayer(50_000, 'real clients')] });
    for (const name of ['team/app', 'other/app']) upstream.addImage(name, 'v1', image);
    const start = async (config: Settings, proxy: Settings): Promise<Cistern> =>
      cleanup.use(
        await startCistern({ config: { ...config, proxy: { remoteurl: upstream.url, ...proxy } } }),
      );
    const path = await writeHtpasswd({ ann: 'right', bob: 'other' }, folder);
    passwords = await start(
      { auth: { htpasswd: { realm: 'mirror', path } } },
      { groups: { devs: ['ann'] }, access: [{ groups: ['devs'], repositories: ['team/*'] }] },
    );
    forge = cleanup.use(await TokenForge.start(['team/app', 'ghcr.io/team/app']));
    jwks = join(folder, 'jwks.json');
    await writeFile(jwks, forge.keySet);
    tokens = await start(
      { auth: { token: { realm: forge.realm, service: tokenService, issuer: tokenIssuer, jwks } } },
      { upstreams: [{ host: 'ghcr.io', url: upstream.url }] },
    );
    certificates = await certificateScene(folder, (tls) =>
      start({ http: { tls } }, { access: [{ users: ['ann'] }, { groups: ['devs'] }] }),
    );
  });
  afterAll(() => cleanup.disposeAsync());
  afterEach(() => {
    forge.wrong = undefined;
  });

  describe.each(clientKinds)('$name', ({ needs, start }) => {
    describe.skipIf(lacks(...needs))('logs in and pulls', () => {
      let client: Client;
      beforeAll(async () => {
        client = await start(certificates);
      });
      afterAll(() => client?.[Symbol.asyncDispose]());

      it('with a password', async () => {
        expect(await client.login(passwords, right)).toMatchObject({ code: 0 });
        expect(await client.pull(passwords, own, right)).toMatchObject({ code: 0 });
      });

      it.each(wrongLogins)('with no wrong password: %s', async (login) => {
        expect(outcome(await client.login(passwords, login))).toEqual(refused(unauthorized));
        expect(outcome(await client.pull(passwords, own, login))).toEqual(refused(unauthorized));
      });

      it('nothing that is granted to others', async () => {
        expect(outcome(await client.pull(passwords, foreign, right))).toEqual(refused(forbidden));
        expect(outcome(await client.pull(passwords, own, 'bob:other'))).toEqual(refused(forbidden));
      });

      it('nothing without a login', async () => {
        for (const mirror of [passwords, tokens])
          expect(outcome(await client.pull(mirror, own))).toEqual(refused(unauthorized));
      });

      it('with a token', async () => {
        expect(await client.login(tokens, right)).toMatchObject({ code: 0 });
        expect(await client.pull(tokens, own, right)).toMatchObject({ code: 0 });
        for (const login of wrongLogins)
          expect(outcome(await client.pull(tokens, own, login))).toEqual(refused(unauthorized));
      });

      it('with no token that grants something else', async () => {
        expect(outcome(await client.pull(tokens, foreign, right))).toEqual(refused(notCovered));
      });

      it.each(wrongTokens)('with no token %s', async (wrong) => {
        forge.wrong = wrong;
        expect(outcome(await client.pull(tokens, own, right))).toEqual(refused(unauthorized));
      });

      it('with a token for another upstream, which has the name of that in front', async () => {
        expect(await client.pull(tokens, 'ghcr.io/team/app:v1', right)).toMatchObject({ code: 0 });
        expect(forge.scopes).toContain('repository:ghcr.io/team/app:pull');
      });

      it('with a token of the new key, once there is one, and none of the old', async () => {
        const old = forge.issue(['team/app']);
        forge.rotate();
        await writeFile(`${jwks}.new`, forge.keySet);
        await rename(`${jwks}.new`, jwks);
        await expect
          .poll(async () => (await ask(tokens, { authorization: `Bearer ${old}` })).status)
          .toBe(401);
        expect(await client.pull(tokens, own, right)).toMatchObject({ code: 0 });
      });

      it('with a certificate', async () => {
        for (const holder of ['ann', 'member'])
          expect(await client.pullAs(holder, own)).toMatchObject({ code: 0 });
        expect(outcome(await client.pullAs('eve', own))).toEqual(refused(forbidden));
        for (const holder of ['stranger', 'nobody'])
          expect(outcome(await client.pullAs(holder, own))).toEqual(refused(noConnection));
      });
    });
  });

  describe('that are refused are told so in the form of the specification', () => {
    it.each([undefined, ...wrongLogins, 'a:b:c', ':'])('with the password %s', async (login) => {
      const answer = await ask(passwords, login === undefined ? {} : basic(login));
      expect(answer.headers.get('www-authenticate')).toBe('Basic realm="mirror"');
      await expectSpecError(answer, 401, 'UNAUTHORIZED');
    });

    it('with a password that is right, for something else', async () => {
      const answer = await ask(passwords, basic('bob:other'));
      expect(answer.headers.get('www-authenticate')).toBeNull();
      await expectSpecError(answer, 403, 'DENIED');
    });

    it.each(wrongTokens)('with a token %s', async (wrong) => {
      forge.wrong = wrong;
      const answer = await ask(tokens, { authorization: `Bearer ${forge.issue(['team/app'])}` });
      expect(answer.headers.get('www-authenticate')).toBe(
        `Bearer realm="${forge.realm}",service="${tokenService}",scope="repository:team/app:pull",error="invalid_token"`,
      );
      await expectSpecError(answer, 401, 'UNAUTHORIZED');
    });
  });
});

function ask(mirror: Cistern, headers: Readonly<Record<string, string>>): Promise<Response> {
  return fetch(`${mirror.url}/v2/team/app/manifests/v1`, { headers });
}

async function certificateScene(
  folder: string,
  start: (tls: CertificateFiles & { clientcas: readonly string[] }) => Promise<Cistern>,
): Promise<TlsScene> {
  const authority = await makeCertificate(folder, 'authority');
  const another = await makeCertificate(folder, 'another');
  const ca = authority.certificate;
  const server = await makeCertificate(folder, 'server', authority);
  return {
    mirror: await start({ ...server, clientcas: [ca] }),
    ca,
    holders: {
      ann: await makeCertificate(folder, 'ann', authority),
      member: await makeCertificate(folder, 'member', authority, undefined, ['others', 'devs']),
      eve: await makeCertificate(folder, 'eve', authority, undefined, ['others']),
      stranger: await makeCertificate(folder, 'stranger', another, undefined, ['devs']),
      nobody: undefined,
    },
  };
}
