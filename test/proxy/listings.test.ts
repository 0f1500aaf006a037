import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { movableWallClock } from '../parts/clock.js';
import { lacks } from '../parts/debian.js';
import { temporaryFolder, type TemporaryFolder } from '../parts/folder.js';
import { type Image, imageOf, jsonContent, randomLayer } from '../parts/image.js';
import { expectSpecError } from '../parts/mirror.js';

const ociIndex = 'application/vnd.oci.image.index.v1+json';
const tags = ['a', 'b', 'c', 'v1', 'v10', 'v2', 'z'];

describe('listings', () => {
  let folder: TemporaryFolder;
  let upstream: FakeUpstream;
  let other: FakeUpstream;
  let cistern: Cistern;
  const start = (): Promise<Cistern> =>
    startCistern({
      root: join(folder.path, 'root'),
      config: {
        proxy: {
          remoteurl: upstream.url,
          freshness: '0s',
          upstreams: [{ host: 'other.test', url: other.url }],
        },
      },
    });
  beforeAll(async () => {
    folder = await temporaryFolder();
    upstream = await FakeUpstream.start({ pageSize: 3 });
    other = await FakeUpstream.start({ referrers: false });
    for (const [index, tag] of tags.toReversed().entries()) {
      upstream.addManifest('team/app', imageOf({ layers: [randomLayer(10, `t${index}`)] }).manifest, tag);
    }
    cistern = await start();
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
    await other[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });
  const url = (path: string): string => `${cistern.url}/v2/${path}`;

  /** All pages, as a client follows their links. */
  async function pages(path: string, key: string): Promise<{ pages: string[][]; links: string[] }> {
    const found = { pages: [] as string[][], links: [] as string[] };
    for (let next: string | undefined = path; next !== undefined;) {
      const answer = await fetch(new URL(next, cistern.url));
      const body = (await answer.json()) as Record<string, string[]>;
      found.pages.push(body[key] ?? []);
      const link = answer.headers.get('link');
      next = link === null ? undefined : /^<([^>]+)>; rel="next"$/.exec(link)?.[1];
      if (next !== undefined) found.links.push(next);
    }
    return found;
  }

  it('merges the upstream’s pages', async () => {
    const answer = await fetch(url('team/app/tags/list'));
    expect(answer.headers.get('link')).toBeNull();
    expect(await answer.json()).toEqual({ name: 'team/app', tags });
  });

  it('pages with n, last and Link, which keeps ns', async () => {
    const found = await pages('/v2/team/app/tags/list?n=3&ns=docker.io', 'tags');
    expect(found.pages).toEqual([tags.slice(0, 3), tags.slice(3, 6), tags.slice(6)]);
    expect(found.links.map((link) => new URL(link, cistern.url).searchParams.get('ns'))).toEqual([
      'docker.io',
      'docker.io',
    ]);
    expect(await (await fetch(url('team/app/tags/list?last=v1'))).json()).toMatchObject({
      tags: ['v10', 'v2', 'z'],
    });
    expect(await (await fetch(url('team/app/tags/list?last=zzz&n=5'))).json()).toMatchObject({ tags: [] });
    const none = await fetch(url('team/app/tags/list?n=0'));
    expect(none.headers.get('link')).toBeNull();
    expect(await none.json()).toMatchObject({ tags: [] });
  });

  it.each(['-1', 'x', '1.5', '', '99999999999999'])('n=%s is refused', async (n) => {
    for (const path of [`team/app/tags/list?n=${n}`, `_catalog?n=${n}`]) {
      const answer = await fetch(url(path));
      expect(answer.status).toBe(400);
      await expectSpecError(answer, 400, 'PAGINATION_NUMBER_INVALID');
    }
  });

  it('404 where the upstream does not know the name', async () => {
    const answer = await fetch(url('no/such/tags/list'));
    expect(answer.status).toBe(404);
    await expectSpecError(answer, 404, 'NAME_UNKNOWN');
  });

  function withReferrers(target: FakeUpstream, repository: string): [Image, Image, Image] {
    const subject = imageOf({ layers: [randomLayer(10, repository)] });
    const referring = (artifactType: string): Image =>
      imageOf({
        layers: [],
        manifest: {
          artifactType,
          subject: {
            mediaType: subject.manifest.mediaType,
            digest: subject.manifest.digest,
            size: subject.manifest.size,
          },
        },
      });
    const [signature, sbom] = [referring('x/signature'), referring('x/sbom')];
    for (const { manifest } of [subject, signature, sbom]) target.addManifest(repository, manifest);
    return [subject, signature, sbom];
  }

  it('referrers, whole and filtered', async () => {
    const [subject, signature, sbom] = withReferrers(upstream, 'signed');
    const path = `signed/referrers/${subject.manifest.digest}`;
    const all = await fetch(url(path));
    expect(all.headers.get('content-type')).toBe(ociIndex);
    expect(all.headers.get('oci-filters-applied')).toBeNull();
    const { manifests } = (await all.json()) as { manifests: { digest: string }[] };
    expect(manifests.map(({ digest }) => digest).toSorted()).toEqual(
      [signature.manifest.digest, sbom.manifest.digest].toSorted(),
    );
    const some = await fetch(url(`${path}?artifactType=x/sbom`));
    expect(some.headers.get('oci-filters-applied')).toBe('artifactType');
    expect(await some.json()).toMatchObject({
      schemaVersion: 2,
      mediaType: ociIndex,
      manifests: [{ digest: sbom.manifest.digest, artifactType: 'x/sbom' }],
    });
    await expectSpecError(await fetch(url('signed/referrers/sha256:abc')), 400, 'DIGEST_INVALID');
  });

  it('referrers without that API: the fallback tag, else 404', async () => {
    const subject = imageOf({ layers: [randomLayer(10, 'fallback')] }).manifest;
    const descriptor = { mediaType: 'a/b', digest: subject.digest, size: 1, artifactType: 'x/y' };
    const index = jsonContent(ociIndex, { schemaVersion: 2, mediaType: ociIndex, manifests: [descriptor] });
    other.addManifest('old', index, subject.digest.replace(':', '-'));
    other.addManifest('older', subject);
    const answer = await fetch(url(`other.test/old/referrers/${subject.digest}`));
    expect(await answer.json()).toMatchObject({ manifests: [descriptor] });
    await expectSpecError(
      await fetch(url(`other.test/older/referrers/${subject.digest}`)),
      404,
      'NAME_UNKNOWN',
    );
  });

  it('the catalogue is what is cached, by pages', async () => {
    const names = ['app', 'app-b', 'app/c', 'b', 'b/c/d'];
    for (const name of names) {
      upstream.addImage(name, 'v1', imageOf({ layers: [randomLayer(10, name)] }));
      expect((await fetch(url(`${name}/manifests/v1`))).status).toBe(200);
    }
    other.addImage('x', 'v1', imageOf({ layers: [randomLayer(10, 'x')] }));
    expect((await fetch(url('other.test/x/manifests/v1'))).status).toBe(200);
    const all = (await (await fetch(url('_catalog'))).json()) as { repositories: string[] };
    expect(all.repositories).toEqual(all.repositories.toSorted());
    expect(all.repositories).toEqual(expect.arrayContaining([...names, 'other.test/x']));
    const paged = await pages('/v2/_catalog?n=2', 'repositories');
    expect(paged.pages.flat()).toEqual(all.repositories);
    expect(paged.pages[0]).toHaveLength(2);
    expect(await (await fetch(url('_catalog?n=0'))).json()).toEqual({ repositories: [] });
  });

  it.each([
    ['POST', 'team/app/blobs/uploads/'],
    ['PATCH', 'team/app/blobs/uploads/0'],
    ['PUT', 'team/app/blobs/uploads/0?digest=sha256:0'],
    ['PUT', 'team/app/manifests/v1'],
    ['DELETE', 'team/app/manifests/v1'],
    ['DELETE', 'team/app/blobs/sha256:0'],
    ['GET', 'team/app/blobs/uploads/0'],
    ['OPTIONS', 'team/app/manifests/v1'],
    ['POST', ''],
  ])('%s %s is not allowed', async (method, path) => {
    const asked = upstream.requests.length;
    const body = method === 'GET' ? {} : { body: 'x'.repeat(1000) };
    const answer = await fetch(url(path), { method, ...body });
    expect(answer.headers.get('allow')).toBe('GET, HEAD');
    await expectSpecError(answer, 405, 'UNSUPPORTED');
    expect(upstream.requests).toHaveLength(asked);
  });

  it('in trouble serves what it had, also after a restart', async () => {
    await (await fetch(url('team/app/tags/list'))).arrayBuffer();
    await upstream.down();
    const stale = await fetch(url('team/app/tags/list?n=2'));
    expect(stale.headers.get('warning')).toContain('299 - "');
    expect(await stale.json()).toEqual({ name: 'team/app', tags: tags.slice(0, 2) });
    await cistern.stop();
    await cistern[Symbol.asyncDispose]();
    cistern = await start();
    const again = await fetch(url('team/app/tags/list'));
    expect(again.headers.get('warning')).toContain('299 - "');
    expect(await again.json()).toEqual({ name: 'team/app', tags });
    await expectSpecError(await fetch(url('never/seen/tags/list')), 503, 'UNAVAILABLE');
  });
});

describe.skipIf(lacks('faketime'))('a list of tags', () => {
  it('is asked for again after its freshness time even if the wall clock has stepped back', async () => {
    await using cleanup = new AsyncDisposableStack();
    const folder = cleanup.use(await temporaryFolder());
    const upstream = cleanup.use(await FakeUpstream.start());
    upstream.addManifest('app', imageOf({ layers: [randomLayer(10, 'clock')] }).manifest, 'v1');
    const clock = await movableWallClock(join(folder.path, 'clock'));
    const config = { proxy: { remoteurl: upstream.url, freshness: '1s' } };
    const cistern = cleanup.use(
      await startCistern({ root: join(folder.path, 'root'), config, env: clock.env }),
    );
    /** Asks for the list. Returns how far the mirror's clock is behind, in milliseconds. */
    const behindMs = async (): Promise<number> => {
      const answer = await fetch(`${cistern.url}/v2/app/tags/list`);
      expect(await answer.json()).toEqual({ name: 'app', tags: ['v1'] });
      return Date.now() - Date.parse(answer.headers.get('date') ?? '');
    };
    const asked = (): number => upstream.asked({ path: '/v2/app/tags/list' }).length;
    expect(await behindMs()).toBeLessThan(1_800_000);
    await clock.ahead(-3_600);
    await expect.poll(behindMs).toBeGreaterThan(1_800_000);
    const before = asked();
    const askedAgain = async (): Promise<number> => {
      await behindMs();
      return asked() - before;
    };
    await expect.poll(askedAgain).toBeGreaterThan(1);
  });
});
