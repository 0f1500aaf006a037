import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import type { Fault } from '../fakes/fault.js';
import { receive } from '../fakes/slow-client.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { type Image, imageOf, randomLayer } from '../parts/image.js';
import { blobOf, expectSpecError, metric, untilIdle } from '../parts/mirror.js';
import { until } from '../parts/process.js';
import { patience } from '../parts/patience.js';

const troubles: Readonly<Record<string, Fault | 'down'>> = {
  'hang.test': { hang: true },
  'limit-json.test': {
    answer: {
      status: 429,
      headers: { 'content-type': 'application/json', 'retry-after': '300' },
      body: '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}',
    },
  },
  'limit-plain.test': {
    answer: { status: 429, headers: { 'retry-after': '300' }, body: 'You have reached your limit' },
  },
  's500.test': { answer: { status: 500, body: 'oops' } },
  's503.test': { answer: { status: 503, headers: { 'content-type': 'text/html' }, body: '<html>' } },
  'down.test': 'down',
  // Our own credential; the upstream asks for another one from now on.
  'credential.test': { answer: { status: 401, headers: { 'www-authenticate': 'Basic realm="x"' } } },
  'nonsense.test': {
    answer: { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>login</html>' },
  },
};

interface Troubled {
  readonly host: string;
  readonly upstream: FakeUpstream;
  readonly fault: Fault | 'down';
  readonly image: Image;
}

describe('rule 6: upstream trouble is not the client’s trouble', () => {
  let cistern: Cistern;
  const places: Troubled[] = [];
  beforeAll(async () => {
    for (const [host, fault] of Object.entries(troubles)) {
      const upstream = await FakeUpstream.start(
        host === 'credential.test' ? { users: { me: 'secret' } } : {},
      );
      const image = imageOf({ layers: [randomLayer(10_000, host)] });
      upstream.addImage('team/app', 'v1', image);
      places.push({ host, upstream, fault, image });
    }
    cistern = await startCistern({
      config: {
        proxy: {
          freshness: '0s',
          upstreams: places.map(({ host, upstream }) => ({
            host,
            url: upstream.url,
            ...(host === 'credential.test' ? { username: 'me', password: 'secret' } : {}),
          })),
        },
      },
    });
    for (const { host, upstream, fault, image } of places) {
      for (const path of ['manifests/v1', `blobs/${image.config.digest}`]) {
        const answer = await fetch(url(host, path));
        if (answer.status !== 200)
          throw new Error(`${host} ${path}: ${answer.status} ${await answer.text()}`);
        await answer.arrayBuffer();
      }
      if (fault === 'down') await upstream.down();
      else upstream.fault({}, fault);
    }
    await untilIdle(cistern);
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    for (const { upstream } of places) await upstream[Symbol.asyncDispose]();
  });

  const url = (host: string, path: string): string => `${cistern.url}/v2/${host}/team/app/${path}`;
  const within = (seconds: number) => ({ signal: AbortSignal.timeout(seconds * 1000) });

  it.each(Object.keys(troubles))(
    '%s: a cached tag is answered in 5 s, stale, and what it leads to',
    async (host) => {
      const { image } = places.find((place) => place.host === host) as Troubled;
      for (const method of ['HEAD', 'GET']) {
        const answer = await fetch(url(host, 'manifests/v1'), { method, ...within(5) });
        expect(answer.status).toBe(200);
        expect(answer.headers.get('docker-content-digest')).toBe(image.manifest.digest);
        expect(answer.headers.get('warning')).toContain('299 - "');
        expect(answer.headers.get('cache-status')).toContain('stale');
        const bytes = method === 'GET' ? image.manifest.bytes : Buffer.alloc(0);
        expect(Buffer.from(await answer.arrayBuffer())).toEqual(bytes);
      }
      expect((await fetch(url(host, `manifests/${image.manifest.digest}`), within(5))).status).toBe(200);
      expect((await fetch(url(host, `blobs/${image.config.digest}`), within(5))).status).toBe(200);
      expect(await metric(cistern, 'cistern_stale_served_total', { upstream: host })).toBe(2);
    },
  );

  it.each(Object.keys(troubles))(
    '%s: what is not cached is 503 in 10 s, in the form of the spec',
    async (host) => {
      const { image } = places.find((place) => place.host === host) as Troubled;
      const missing = imageOf({ layers: [randomLayer(100, `missing ${host}`)] });
      // A 200 is a blob's beginning, whatever it holds: rule 1 has those.
      const blobs = host === 'nonsense.test' ? [] : [`blobs/${image.layers[0]?.digest}`];
      const paths = ['manifests/v2', `manifests/${missing.manifest.digest}`, ...blobs];
      const answers = await Promise.all(paths.map((path) => fetch(url(host, path), within(10))));
      expect(answers.map(({ status }) => status)).toEqual(paths.map(() => 503));
      for (const answer of answers) {
        expect(answer.headers.get('retry-after')).toMatch(/^\d+$/);
        expect(answer.headers.get('www-authenticate')).toBeNull();
        await expectSpecError(answer, 503, 'UNAVAILABLE');
      }
    },
  );

  it('lists the tags that are cached', async () => {
    const answer = await fetch(url('down.test', 'tags/list'), within(10));
    expect(await answer.json()).toMatchObject({ tags: ['v1'] });
    expect(answer.headers.get('warning')).toContain('299 - "');
  });

  it('passes on how long a limit lasts', async () => {
    const answer = await fetch(url('limit-json.test', 'manifests/other'), within(10));
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(200);
  });

  it.each(['s503.test', 'down.test', 'hang.test'])('%s: notices the recovery', async (host) => {
    const { upstream, image } = places.find((place) => place.host === host) as Troubled;
    if (host === 'down.test') await upstream.up();
    upstream.clearFaults();
    await until(async () => {
      const answer = await fetch(url(host, 'manifests/v1'), within(5));
      await answer.arrayBuffer();
      expect(answer.status).toBe(200);
      return answer.headers.get('warning') === null;
    }, patience());
    expect((await receive(url(host, `blobs/${image.layers[0]?.digest}`))).status).toBe(200);
  });
});

describe('rule 6: answers are believed, and failures told', () => {
  let upstream: FakeUpstream;
  let cistern: Cistern;
  beforeAll(async () => {
    upstream = await FakeUpstream.start();
    cistern = await startCistern({ config: { proxy: { remoteurl: upstream.url, freshness: '0s' } } });
  });
  afterAll(async () => {
    await cistern[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
  });
  const url = (path: string): string => `${cistern.url}/v2/${path}`;

  it.each([
    [401, 404, 'MANIFEST_UNKNOWN'],
    [403, 403, 'DENIED'],
    [404, 404, 'MANIFEST_UNKNOWN'],
  ])('%i for a tag that is cached', async (said, status, code) => {
    const image = imageOf({ layers: [randomLayer(100, `said ${said}`)] });
    const path = `said${said}/manifests/v1`;
    upstream.addImage(`said${said}`, 'v1', image);
    expect((await fetch(url(path))).status).toBe(200);
    upstream.fault({ path: `/v2/${path}` }, { answer: { status: said } });
    const answer = await fetch(url(path));
    expect(answer.headers.get('www-authenticate')).toBeNull();
    await expectSpecError(answer, status, code);
  });

  it('holds a no for seconds: one request for many clients, and a fresh push is seen soon', async () => {
    const image = imageOf({ layers: [randomLayer(100, 'pushed')] });
    const path = 'pushed/manifests/v1';
    const all = await Promise.all(Array.from({ length: 50 }, () => fetch(url(path))));
    for (const answer of all) {
      expect(answer.status).toBe(404);
      await answer.arrayBuffer();
    }
    expect((await fetch(url(path))).status).toBe(404);
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
    upstream.addImage('pushed', 'v1', image);
    await until(async () => (await fetch(url(path))).status === 200, patience());
  });

  it('fails everyone who waits for a blob that cannot be had, with the reason', async () => {
    const blob = blobOf(1000, 'waiters');
    const path = `waiters/blobs/${blob.digest}`;
    const go = Promise.withResolvers<void>();
    upstream.fault({ path: `/v2/${path}` }, { headersAfter: go.promise, answer: { status: 403 } });
    const waiting = Promise.all(Array.from({ length: 20 }, () => fetch(url(path))));
    await upstream.until(() => upstream.asked({ path: `/v2/${path}` }).length > 0);
    go.resolve();
    const answers = await waiting;
    expect(answers).toHaveLength(20);
    for (const answer of answers) await expectSpecError(answer, 403, 'DENIED');
    expect(upstream.asked({ path: `/v2/${path}` })).toHaveLength(1);
  });

  it.each<[string, Fault]>([
    ['is cut', { cutAt: 10 }],
    ['is none', { answer: { status: 200, body: '{}' } }],
    // HEAD does not count against a pull limit; GET does. Last: the whole upstream is then left alone for a while.
    ['is refused', { answer: { status: 429 } }],
  ])('keeps the old tag while the new manifest %s', async (what, fault) => {
    const repository = what.replace(' ', '-');
    const [old, moved] = [1, 2].map((n) => imageOf({ layers: [randomLayer(100, `${what} ${n}`)] }));
    if (old === undefined || moved === undefined) throw new Error('two images');
    const path = `${repository}/manifests/v1`;
    upstream.addImage(repository, 'v1', old);
    expect((await fetch(url(path))).status).toBe(200);
    upstream.addImage(repository, 'v1', moved);
    upstream.fault({ method: 'GET', path: `/v2/${repository}/manifests/${moved.manifest.digest}` }, fault);
    const answer = await fetch(url(path));
    expect(answer.headers.get('docker-content-digest')).toBe(old.manifest.digest);
    expect(answer.headers.get('warning')).toContain('299 - "');
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(old.manifest.bytes);
  });
});
