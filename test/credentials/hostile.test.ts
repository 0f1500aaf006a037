import { describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { type Content, type Image, imageOf, randomLayer } from '../parts/image.js';
import { expectSpecError, sha256 } from '../parts/mirror.js';
import { TokenServer } from '../parts/token-server.js';
import { basicOf, password, user } from './private-registry.js';
import { startWitness, type Witness } from './witness.js';

const repository = 'team/app';
const images = ['first', 'second'].map((seed) => imageOf({ layers: [randomLayer(50_000, seed)] }));

function firstLayer(image: Image | undefined): Content {
  const [layer] = image?.layers ?? [];
  if (layer === undefined) throw new Error('no layer');
  return layer;
}

interface Scene extends AsyncDisposable {
  readonly upstream: FakeUpstream;
  readonly cistern: Cistern;
  get(path: string): Promise<Response>;
  /** Nothing of the password or of a token, in any of its forms, arrived there. */
  expectDeaf(witness: Witness): void;
}

/** A mirror that its upstream knows by basic authentication or by tokens, and that has asked for something already. */
async function startScene(protection: 'basic' | 'bearer'): Promise<Scene> {
  await using cleanup = new AsyncDisposableStack();
  const account = { password, repositories: [repository] };
  const tokens = cleanup.use(await TokenServer.start({ users: { [user]: account } }));
  const upstream = cleanup.use(
    await FakeUpstream.start(protection === 'basic' ? { users: { [user]: password } } : { tokens }),
  );
  images.forEach((image, index) => upstream.addImage(repository, `v${index}`, image));
  const cistern = cleanup.use(
    await startCistern({
      config: { proxy: { remoteurl: upstream.url, freshness: '1ms', username: user, password } },
    }),
  );
  const get = (path: string) => fetch(`${cistern.url}/v2/${repository}/${path}`);
  expect((await get('manifests/v0')).status).toBe(200);
  const owned = cleanup.move();
  return {
    upstream,
    cistern,
    get,
    expectDeaf: (witness) => {
      const said = witness.heard().toLowerCase();
      expect(said).not.toMatch(/authorization|cookie/);
      for (const secret of [
        password,
        encodeURIComponent(password),
        basicOf(user, password).slice(6),
        ...tokens.issued,
      ]) {
        expect(said).not.toContain(secret.toLowerCase());
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe.skipIf(lacks('openssl')).each(['basic', 'bearer'] as const)(
  'with %s authentication',
  (protection) => {
    it('a redirect to another host carries nothing, and what it leads to is served', async () => {
      await using scene = await startScene(protection);
      const blob = firstLayer(images[0]);
      await using witness = await startWitness({ status: 200, body: blob.bytes });
      const path = `/v2/${repository}/blobs/${blob.digest}`;
      scene.upstream.fault({ path, method: 'GET' }, { redirect: `${witness.url}/layer?signature=signed` });
      const answer = await scene.get(`blobs/${blob.digest}`);
      expect(answer.status).toBe(200);
      expect(`sha256:${sha256(new Uint8Array(await answer.arrayBuffer()))}`).toBe(blob.digest);
      // The upstream did get them, so that there was something to carry.
      expect(scene.upstream.asked({ path }).at(-1)?.headers.authorization).toMatch(/^(?:Basic|Bearer) ./);
      expect(witness.heard()).toContain('GET /layer?signature=signed');
      scene.expectDeaf(witness);
    });

    it.each([
      'Basic realm="storage"',
      'Bearer realm="REALM",service="storage",scope="repository:team/app:pull"',
    ])('a host that was redirected to and asks for credentials (%s) gets none', async (asks) => {
      await using scene = await startScene(protection);
      await using realm = await startWitness({ status: 200, body: '{"token":"t"}' });
      const challenge = asks.replace('REALM', `${realm.url}/token`);
      await using witness = await startWitness({
        status: 401,
        headers: { 'www-authenticate': challenge },
        body: '',
      });
      const blob = firstLayer(images[0]);
      scene.upstream.fault({ path: /\/blobs\// }, { redirect: `${witness.url}/layer` });
      const answer = await scene.get(`blobs/${blob.digest}`);
      expect(answer.headers.get('www-authenticate')).toBeNull();
      expect([404, 503]).toContain(answer.status);
      expect(witness.requests()).toBeGreaterThan(0);
      scene.expectDeaf(witness);
      expect(realm.heard()).toBe('');
    });

    it('a manifest that is redirected to another host takes nothing along', async () => {
      await using scene = await startScene(protection);
      const [, image] = images;
      await using witness = await startWitness({ status: 200, body: image?.manifest.bytes ?? '' });
      scene.upstream.fault({ path: /\/manifests\// }, { redirect: `${witness.url}/manifest` });
      await scene.get(`manifests/${image?.manifest.digest}`);
      expect(witness.requests()).toBeGreaterThan(0);
      scene.expectDeaf(witness);
    });

    it('a realm on another host is not even asked; cached content is served, the rest is not', async () => {
      await using scene = await startScene(protection);
      await using witness = await startWitness({ status: 200, body: '{"token":"t"}' });
      scene.upstream.fault(
        {},
        {
          answer: {
            status: 401,
            headers: { 'www-authenticate': `Bearer realm="${witness.url}/token",service="evil"` },
          },
        },
      );
      await expectSpecError(await scene.get('manifests/v1'), 503, 'UNAVAILABLE');
      const stale = await scene.get('manifests/v0');
      expect(stale.status).toBe(200);
      expect(stale.headers.get('warning')).not.toBeNull();
      expect(witness.heard()).toBe('');
    });
  },
);
