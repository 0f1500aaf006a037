import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Cistern, type Settings, startCistern } from '../parts/cistern.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder } from '../parts/folder.js';
import { contentsOf, type Image, imageOf, randomLayer } from '../parts/image.js';
import { expectSpecError, sha256, untilIdle } from '../parts/mirror.js';
import { password, type PrivateRegistry, startPrivateRegistry, user } from './private-registry.js';

const other = 'an0ther pässword';

function imageNamed(seed: string): Image {
  return imageOf({ layers: [randomLayer(100_000, seed)] });
}

function pathsOf(repository: string, image: Image): string[] {
  const { manifests, blobs } = contentsOf(image);
  return [
    `${repository}/manifests/v1`,
    ...manifests.map(({ digest }) => `${repository}/manifests/${digest}`),
    ...blobs.map(({ digest }) => `${repository}/blobs/${digest}`),
  ];
}

/** What came for everything that an image consists of: the digest of the bytes, or the status of a refusal. */
async function pull(cistern: Cistern, repository: string, image: Image): Promise<(string | number)[]> {
  const came: (string | number)[] = [];
  for (const path of pathsOf(repository, image)) {
    const answer = await fetch(`${cistern.url}/v2/${path}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    came.push(answer.ok ? `sha256:${sha256(bytes)}` : answer.status);
  }
  return came;
}

function all(image: Image): string[] {
  const { manifests, blobs } = contentsOf(image);
  return [image.manifest, ...manifests, ...blobs].map(({ digest }) => digest);
}

describe.skipIf(lacks('docker-registry', 'openssl')).each(['htpasswd', 'token server'] as const)(
  'a private registry with a %s',
  (protection) => {
    const [first, second] = [imageNamed('first'), imageNamed('second')];
    let registry: PrivateRegistry;
    beforeEach(async () => {
      registry = await startPrivateRegistry(protection);
      await registry.push('team/first', 'v1', first);
      await registry.push('team/second', 'v1', second);
    });
    afterEach(() => registry[Symbol.asyncDispose]());

    const mirror = (proxy: Settings, root?: string) =>
      startCistern({
        config: { proxy: { remoteurl: registry.url, freshness: '1ms', ...proxy } },
        ...(root === undefined ? {} : { root }),
      });

    it('is pulled from with the configured password', async () => {
      await using cistern = await mirror({ username: user, password });
      expect(await pull(cistern, 'team/first', first)).toEqual(all(first));
      expect(await pull(cistern, 'team/second', second)).toEqual(all(second));
    });

    it('is pulled from as a further upstream, whose credentials are its own', async () => {
      await using cistern = await mirror({
        upstreams: [{ host: 'private.example', url: registry.url, username: user, password }],
      });
      expect(await pull(cistern, 'private.example/team/first', first)).toEqual(all(first));
      expect(await pull(cistern, 'team/first', first)).toEqual([404, 404, 404, 404]);
    });

    it('is pulled from with a password in a file, also after both were changed', async () => {
      await using folder = await temporaryFolder();
      const passwordfile = join(folder.path, 'password');
      await writeFile(passwordfile, `${password}\n`);
      await using cistern = await mirror({ username: user, passwordfile });
      expect(await pull(cistern, 'team/first', first)).toEqual(all(first));
      await registry.changePassword(other);
      // As Kubernetes and Docker replace mounted secrets.
      await writeFile(join(folder.path, 'next'), other);
      await rename(join(folder.path, 'next'), passwordfile);
      expect(await pull(cistern, 'team/second', second)).toEqual(all(second));
    });

    it('is pulled from again when a wrong password in the file is put right', async () => {
      await using folder = await temporaryFolder();
      const passwordfile = join(folder.path, 'password');
      await writeFile(passwordfile, other);
      await using cistern = await mirror({ username: user, passwordfile });
      expect(await pull(cistern, 'team/first', first)).toEqual([503, 503, 503, 503]);
      await writeFile(passwordfile, password);
      await expect.poll(() => pull(cistern, 'team/first', first)).toEqual(all(first));
    });

    it('is pulled from with further credentials when the first are refused', async () => {
      await using cistern = await mirror({
        username: 'gone',
        password: other,
        credentials: [{ username: user, password }],
      });
      expect(await pull(cistern, 'team/first', first)).toEqual(all(first));
      await expect.poll(() => cistern.log()).toContain('the upstream refuses credentials of ours');
      expect(cistern.log()).not.toContain(other);
    });

    it.each(['GET', 'HEAD'])(
      'has nothing for %s without a password, and no client is asked for one',
      async (method) => {
        await using cistern = await mirror({});
        for (const path of pathsOf('team/first', first)) {
          const answer = await fetch(`${cistern.url}/v2/${path}`, { method });
          expect(answer.headers.get('www-authenticate')).toBeNull();
          expect(answer.status).toBe(404);
          if (method === 'HEAD') continue;
          await expectSpecError(answer, 404, path.includes('/blobs/') ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN');
        }
      },
    );

    it('that refuses the password is in trouble: what is cached is served stale, the rest not at all', async () => {
      await using folder = await temporaryFolder();
      {
        await using cistern = await mirror({ username: user, password }, folder.path);
        expect(await pull(cistern, 'team/first', first)).toEqual(all(first));
        await untilIdle(cistern);
      }
      await registry.changePassword(other);
      await using cistern = await mirror({ username: user, password }, folder.path);
      const stale = await fetch(`${cistern.url}/v2/team/first/manifests/v1`);
      expect(stale.status).toBe(200);
      expect(stale.headers.get('warning')).toContain('credentials-refused');
      expect(await pull(cistern, 'team/first', first)).toEqual(all(first));
      for (const path of pathsOf('team/second', second)) {
        const answer = await fetch(`${cistern.url}/v2/${path}`);
        expect(answer.headers.get('www-authenticate')).toBeNull();
        await expectSpecError(answer, 503, 'UNAVAILABLE');
      }
    });
  },
);
