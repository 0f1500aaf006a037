import { describe, expect, it } from 'vitest';
import {
  bearer,
  clientOf,
  digest,
  patient,
  refuse,
  repository,
  sendJson,
  serve,
  type Script,
} from './scripted-registry.js';

const name = repository('o/i');
const subject = digest('subject');

describe('tags', () => {
  it('come from all pages, with a token for each', async () => {
    const server = await serve((request, response) => {
      const { pathname, searchParams } = new URL(request.url, server.url);
      if (pathname === '/token') return sendJson(response, { token: 't' });
      if (request.headers.authorization !== 'Bearer t')
        return refuse(response, bearer(`${server.url}/token`));
      const last = searchParams.get('last');
      if (last === null) response.setHeader('link', '</v2/o/i/tags/list?n=2&last=b>; rel="next"');
      if (last === 'b') response.setHeader('link', '<http://elsewhere.test/x?last=d>; title="a,b"; rel=next');
      if (last === 'd') response.setHeader('link', '</v2/o/i/tags/list?last=a>; rel="prev"');
      return sendJson(response, { name, tags: { b: ['c', 'd'], d: ['e'] }[last ?? ''] ?? ['a', 'b'] });
    });
    const { upstream } = clientOf(server.url);
    expect(await upstream.listTags(name, patient)).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(server.arrived.filter(({ url }) => url.startsWith('/v2')).map(({ url }) => url)).toEqual([
      '/v2/o/i/tags/list',
      '/v2/o/i/tags/list',
      '/v2/o/i/tags/list?n=2&last=b',
      '/v2/o/i/tags/list?last=d',
    ]);
  });

  it.each<[string, Script, string[]]>([
    ['null', (_, r) => sendJson(r, { name, tags: null }), []],
    ['other things too', (_, r) => sendJson(r, { tags: ['a', 7, null] }), ['a']],
  ])('may be %s', async (_, script, expected) => {
    expect(await clientOf((await serve(script)).url).upstream.listTags(name, patient)).toEqual(expected);
  });

  it.each<[string, Script, string, number]>([
    ['of an unknown repository', (_, r) => sendJson(r, {}, 404), 'not-found', 1],
    ['that are no list', (_, r) => sendJson(r, { tags: 'a' }), 'invalid', 1],
    ['that are no JSON', (_, r) => r.end('<html>'), 'invalid', 1],
    [
      'on a page that links to itself',
      (_, r) => sendJson(r.setHeader('link', '<?last=a>; rel="next"'), { tags: ['a'] }),
      'invalid',
      2,
    ],
    [
      'on too many pages',
      (q, r) => {
        const page = Number(new URL(q.url, 'http://x').searchParams.get('page') ?? 0);
        sendJson(r.setHeader('link', `<?page=${page + 1}>; rel="next"`), { tags: ['a'] });
      },
      'invalid',
      1000,
    ],
  ])('%s are refused', async (_, script, code, requests) => {
    const server = await serve(script);
    await expect(clientOf(server.url).upstream.listTags(name, patient)).rejects.toMatchObject({ code });
    expect(server.arrived).toHaveLength(requests);
  });
});

describe('referrers', () => {
  it('come from all pages, as they are', async () => {
    const first = { mediaType: 'application/vnd.oci.image.manifest.v1+json', annotations: { a: 'b' } };
    const server = await serve((request, response) => {
      if (request.url.endsWith('?page=2')) return sendJson(response, { manifests: [{ size: 2 }, 'x'] });
      return sendJson(response.setHeader('link', '<?page=2>; rel="next"'), { manifests: [first] });
    });
    const { upstream } = clientOf(server.url);
    expect(await upstream.listReferrers(name, subject, patient)).toEqual({ manifests: [first, { size: 2 }] });
    expect(server.arrived[0]?.url).toBe(`/v2/o/i/referrers/${subject}`);
  });

  it.each([404, 405, 501])('are not found where the upstream answers %i', async (status) => {
    const { upstream } = clientOf((await serve((_, response) => sendJson(response, {}, status))).url);
    await expect(upstream.listReferrers(name, subject, patient)).rejects.toMatchObject({
      code: 'not-found',
      status,
    });
  });

  it('that are no index are refused', async () => {
    const { upstream } = clientOf(
      (await serve((_, response) => sendJson(response, { manifests: null }))).url,
    );
    await expect(upstream.listReferrers(name, subject, patient)).rejects.toMatchObject({ code: 'invalid' });
  });
});
