import { describe, expect, it } from 'vitest';
import { wholeBodies } from '../../src/memory/budgets.js';
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

describe('a list for which there is no room in memory', () => {
  it('is trouble that passes, while another upstream has its lists', async () => {
    const server = await serve((_, response) => sendJson(response, { tags: ['a'] }));
    const [full, other] = ['full.test', 'other.test'].map((host) => clientOf(server.url, { host }).upstream);
    using holding = wholeBodies.open('full.test');
    while (holding.tryGrow(1024));
    await expect(full?.listTags(name, patient)).rejects.toMatchObject({
      code: 'no-room',
      kind: 'trouble',
      retryAfterMs: 5_000,
    });
    expect(await other?.listTags(name, patient)).toEqual(['a']);
    holding[Symbol.dispose]();
    expect(await full?.listTags(name, patient)).toEqual(['a']);
  });

  it.each([
    ['short tags', () => `{"tags":[${'"a",'.repeat(300_000)}"a"]}`],
    ['empty objects', () => `{"tags":[${'{},'.repeat(300_000)}"a"]}`],
    ['nested arrays', () => `{"tags":${'['.repeat(300_000)}${']'.repeat(300_000)}}`],
    ['more than 16 MiB', () => `{"tags":["${'a'.repeat(16 * 1024 * 1024)}"]}`],
  ])('is refused where it would take too much: %s', async (_, text) => {
    const server = await serve((__, response) => void response.end(text()));
    await expect(clientOf(server.url).upstream.listTags(name, patient)).rejects.toMatchObject({
      code: 'invalid',
      message: expect.stringContaining('more than') as string,
    });
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
