import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseDigest } from '../../src/oci/digest.js';
import { parseRepository, parseTag } from '../../src/oci/name.js';
import { errorCodes } from '../../src/oci/codes.js';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { temporaryFolder, type TemporaryFolder } from '../parts/folder.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { filesUnder, untilIdle } from '../parts/mirror.js';

const cases = 3000;

describe('input of any kind', () => {
  let folder: TemporaryFolder;
  let upstream: FakeUpstream;
  let cistern: Cistern;
  beforeAll(async () => {
    folder = await temporaryFolder();
    upstream = await FakeUpstream.start();
    upstream.addImage('team/app', 'v1', imageOf({ layers: [randomLayer(100, 'hostile')] }));
    cistern = await startCistern({
      root: join(folder.path, 'parent', 'root'),
      config: {
        log: { level: 'info', accesslog: { disabled: true } },
        proxy: { remoteurl: upstream.url, upstreams: [{ host: 'other.test', url: upstream.url }] },
      },
    });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  /** Exactly these bytes as a request, and all that comes back. */
  async function send(method: string, target: string, headers: readonly string[] = []): Promise<string> {
    const lines = [`${method} ${target} HTTP/1.1`, `Host: ${cistern.host}`, 'Connection: close', ...headers];
    const socket = connect(Number(new URL(cistern.url).port), '127.0.0.1');
    socket.write(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'));
    let text = '';
    socket.setEncoding('latin1');
    for await (const chunk of socket as AsyncIterable<string>) text += chunk;
    return text;
  }

  /** A valid answer, or an error in the distribution-spec's form. */
  function judge(answer: string, { head = false } = {}): string {
    const [, status = '', rest = ''] = /^HTTP\/1\.1 (\d{3}) [\s\S]*?\r\n([\s\S]*)$/.exec(answer) ?? [];
    if (/^(?:200|206|304)$/.test(status)) return 'fine';
    if (!/^4\d\d$/.test(status)) return `status ${status}: ${answer.slice(0, 300)}`;
    const body = rest.slice(rest.indexOf('\r\n\r\n') + 4);
    if (head) return body === '' ? 'fine' : 'a body for HEAD';
    try {
      const { errors } = JSON.parse(body) as { errors: { code: string; message: unknown }[] };
      const [error] = errors;
      return error !== undefined && error.code in errorCodes && typeof error.message === 'string'
        ? 'fine'
        : `error ${body}`;
    } catch {
      return `body ${answer.slice(0, 300)}`;
    }
  }

  const nasty = fc.constantFrom(
    '..',
    '.',
    '',
    '/',
    '//',
    '%2e%2e',
    '%2E%2E%2F',
    '..%2f..%2f',
    '%00',
    '%0d%0a',
    '%',
    '%zz',
    '%c0%af',
    '\\',
    '_layers',
    '_manifests',
    '_uploads',
    'blobs',
    'manifests',
    'uploads',
    'tags',
    'list',
    'link',
    'cistern',
    'other.test',
    'other__test',
    'registry.local:5000',
    'UPPER',
    'a__b',
    'a---b',
    'a..b',
    '-a',
    'a-',
    'team',
    'app',
    'sha256',
    'v1',
    '@',
    ':',
    '?',
    '#',
    '*',
    'constructor',
    '__proto__',
    'a'.repeat(300),
    'a/'.repeat(130),
    '~',
    '%F0%9F%92%A9',
    '127.0.0.1:1',
    '[::1]:80',
  );
  const text = fc
    .string({ unit: 'grapheme-ascii', maxLength: 12 })
    .map((value) => value.replaceAll(/\s/g, '+'));
  const component = fc.oneof(
    nasty,
    text,
    text.map((value) => encodeURIComponent(value)),
  );
  const name = fc.array(component, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/'));
  const hex = fc.string({
    unit: fc.constantFrom(...'0123456789abcdefABCDEFg'),
    minLength: 60,
    maxLength: 66,
  });
  const reference = fc.oneof(
    component,
    hex.map((value) => `sha256:${value}`),
    fc.constantFrom(
      `sha256:${'0'.repeat(64)}`,
      `sha256%3A${'0'.repeat(64)}`,
      `sha512:${'a'.repeat(128)}`,
      `md5:${'0'.repeat(32)}`,
    ),
  );
  const query = fc.oneof(
    fc.constant(''),
    fc
      .tuple(fc.constantFrom('ns', 'n', 'last', 'artifactType', 'digest', '__proto__'), component)
      .map(([key, value]) => `?${key}=${value}`),
    text.map((value) => `?${value}`),
  );
  const kind = fc.constantFrom('manifests', 'blobs', 'referrers', 'tags', 'blobs/uploads', 'manifest', '');
  const target = fc.oneof(
    fc.tuple(name, kind, reference, query).map(([n, k, r, q]) => `/v2/${n}/${k}/${r}${q}`),
    fc.tuple(name, query).map(([n, q]) => `/v2/${n}${q}`),
    fc.tuple(name, query).map(([n, q]) => `/v2/${n}/tags/list${q}`),
  );
  const method = fc.constantFrom('GET', 'GET', 'GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS');
  const value = fc.oneof(
    text,
    fc.constantFrom(
      'bytes=0-',
      'bytes=-',
      'bytes=9999999999999999999-',
      '"a", , W/',
      'x'.repeat(8000),
      'Basic !!!',
      'Bearer x',
      '\u00ff\u00fe',
    ),
  );
  const header = fc
    .tuple(
      fc.constantFrom(
        'Range',
        'If-None-Match',
        'If-Range',
        'Accept',
        'Authorization',
        'X-Request-Id',
        'X-Forwarded-For',
        'Content-Length',
        'Expect',
      ),
      value,
    )
    .map(([key, content]) => `${key}: ${content}`);

  it('is answered in the form of the spec, and never leaves the root nor the grammar', async () => {
    await fc.assert(
      fc.asyncProperty(method, target, async (verb, path) => {
        const answer = await send(verb, path.replaceAll(/[\s#]/g, '+'));
        expect(judge(answer, { head: verb === 'HEAD' })).toBe('fine');
      }),
      { numRuns: cases },
    );
    await untilIdle(cistern);
    for (const { path } of upstream.requests) {
      const [, repository = '', what = '', last = ''] =
        /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/([^/]+)$/.exec(path) ?? [];
      expect({ path, repository: parseRepository(repository) }).toEqual({ path, repository });
      const valid = what === 'tags' ? last === 'list' : (parseDigest(last) ?? parseTag(last)) === last;
      expect({ path, valid }).toEqual({ path, valid: true });
    }
    expect(upstream.requests.length).toBeGreaterThan(10);
    await expectContained();
  });

  it('headers of any kind change nothing of that', async () => {
    const paths = fc.constantFrom(
      '/v2/',
      '/v2/team/app/manifests/v1',
      '/v2/team/app/tags/list',
      `/v2/team/app/blobs/sha256:${'0'.repeat(64)}`,
      '/v2/_catalog',
    );
    await fc.assert(
      fc.asyncProperty(paths, fc.array(header, { maxLength: 4 }), async (path, headers) => {
        // What is no HTTP is refused by the parser, in its own words.
        const answer = await send('GET', path, headers);
        const refused = /^HTTP\/1\.1 4(?:00|17|31) /.test(answer);
        expect(refused ? 'fine' : judge(answer)).toBe('fine');
      }),
      { numRuns: 500 },
    );
    await expectContained();
  });

  it('and the mirror lives', async () => {
    expect((await fetch(`${cistern.url}/v2/team/app/manifests/v1`)).status).toBe(200);
    expect(cistern.log()).not.toContain('UNKNOWN');
  });

  /** Beside the root there is nothing, and in it no other tree than the known ones. */
  async function expectContained(): Promise<void> {
    const files = await filesUnder(dirname(cistern.root));
    const known = /^root\/(?:cistern\/|docker\/registry\/v2\/(?:blobs|repositories)\/)/;
    expect(files.filter((file) => !known.test(file))).toEqual([]);
    expect(files.filter((file) => !/^[\w./@-]+$/.test(file))).toEqual([]);
  }
});
