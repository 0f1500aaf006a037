import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FakeUpstream } from '../fakes/fake-upstream.js';
import { type Cistern, startCistern } from '../parts/cistern.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric } from '../parts/mirror.js';
import { answersIn, converse, repeated, request, type Step } from './conversation.js';

const image = imageOf({ layers: [randomLayer(500, 'lane')] });
const blobs = [blobOf(300, 'lane small'), blobOf(64 * 1024, 'lane middle'), blobOf(200 * 1024, 'lane large')];
const small = `/v2/team/app/blobs/${blobs[0]?.digest}`;
const contents = [
  '/v2/team/app/manifests/v1',
  `/v2/team/app/manifests/${image.manifest.digest}`,
  ...blobs.map(({ digest }) => `/v2/team/app/blobs/${digest}`),
];
const others = ['/v2/', '/v2/team/app/manifests/none', '/v2/team/app/tags/list', '/v2/x/../y', '/healthz'];

let upstream: FakeUpstream;
let fast: Cistern;
/** The same, but that a limit, which is never reached, keeps its lane shut. */
let slow: Cistern;

beforeAll(async () => {
  upstream = await FakeUpstream.start();
  upstream.addImage('team/app', 'v1', image);
  for (const blob of blobs) upstream.addBlob('team/app', blob);
  const headers = { 'X-Content-Type-Options': ['nosniff'], 'X-Two': ['one', 'two'] };
  const start = (limits: object): Promise<Cistern> =>
    startCistern({
      config: { http: { headers, limits }, proxy: { remoteurl: upstream.url, freshness: '1h' } },
    });
  fast = await start({});
  slow = await start({ rate: 1_000_000 });
  for (const { url } of [fast, slow])
    for (const path of contents)
      for (let times = 0; times < 2; times += 1) await (await fetch(url + path)).arrayBuffer();
});
afterAll(async () => {
  await fast[Symbol.asyncDispose]();
  await slow[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

/** How often somebody looked a blob up, which a repeated answer does not. */
function lookUps(cistern: Cistern): Promise<number> {
  return metric(cistern, 'registry_storage_cache_requests_total');
}

/** Without what differs from one moment to the next. */
function lasting(received: string): string {
  return received
    .replaceAll(/^Date: .*/gm, 'Date')
    .replaceAll(/^Age: \d+/gm, 'Age')
    .replaceAll(/^X-Request-Id: [0-9a-f]{12}-[0-9a-z]+\r$/gm, 'X-Request-Id\r');
}

it('an answer that is given again has all that the first one had', async () => {
  for (const path of contents) {
    for (const method of ['GET', 'HEAD']) {
      const steps = repeated(request(path, ['Accept: */*', 'User-Agent: lane'], method), 6);
      const methods = steps.flatMap(({ completes }) => completes);
      const answers = answersIn(await converse(fast.url, steps), methods) ?? [];
      expect(answers).toHaveLength(6);
      expect(new Set(answers.map(lasting)).size).toBe(1);
      const ids = answers.map((answer) => /X-Request-Id: (.*)\r/.exec(answer)?.[1]);
      expect(new Set(ids).size).toBe(6);
      expect(answersIn(await converse(slow.url, steps), methods)?.map(lasting)).toEqual(answers.map(lasting));
    }
  }
});

it('requests for small content come to nobody but the lane, once they were made before', async () => {
  for (const method of ['GET', 'HEAD']) {
    const before = [await lookUps(fast), await lookUps(slow)] as const;
    const steps = repeated(request(small, ['Accept: lane'], method), 200);
    const began = performance.now();
    await converse(fast.url, steps);
    const seconds = Math.ceil((performance.now() - began) / 1000);
    await converse(slow.url, steps);
    expect((await lookUps(slow)) - before[1]).toBeGreaterThanOrEqual(200);
    // The first two, and one more for each second that this took.
    expect((await lookUps(fast)) - before[0]).toBeLessThan(20 + seconds);
  }
});

const plainHeaders = [
  'Accept: */*',
  'User-Agent: lane',
  'Connection: keep-alive',
  'X-Forwarded-For: 10.0.0.1',
];
const oddHeaders = [
  'Connection: close',
  'Content-Length: 0',
  'content-length: 3',
  'Transfer-Encoding: chunked',
  'Expect: 100-continue',
  'Upgrade: h2c',
  'Range: bytes=1-3',
  `If-None-Match: "${image.manifest.digest}"`,
  'If-Range: x',
  'X-Request-Id: given',
  'Authorization: Basic eDp5',
  'Host: another.test',
  'Folded: one\r\n two',
  'Bare: line\nX: y',
  'Space : before',
  'High: \u00e9',
  `Long: ${'x'.repeat(9_000)}`,
];
const method = fc.constantFrom('GET', 'GET', 'GET', 'HEAD', 'HEAD', 'POST', 'get');
const asked = fc.record({
  method,
  path: fc.constantFrom(...contents, ...contents, ...others),
  plain: fc.subarray(plainHeaders, { maxLength: 2 }),
  odd: fc.option(fc.constantFrom(...oddHeaders), { nil: undefined, freq: 2 }),
  version: fc.constantFrom(...Array.from({ length: 9 }, () => 'HTTP/1.1'), 'HTTP/1.0'),
  host: fc.constantFrom('Host: mirror.test\r\n', 'Host: mirror.test\r\n', 'host:mirror.test  \r\n', ''),
});

/** As it arrives: whole, in pieces, with the next one behind it, or after an empty line. */
const framed = fc.record({
  asked,
  how: fc.constantFrom('whole', 'whole', 'whole', 'whole', 'pieces', 'twice', 'late', 'partly'),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
});

function stepsOf({ asked: { method: verb, path, plain, odd, version, host }, how, at }: Framed): Step[] {
  const headers = [...plain, ...(odd === undefined ? [] : [odd])].map((header) => `${header}\r\n`).join('');
  const bytes = `${verb} ${path} ${version}\r\n${host}${headers}\r\n`;
  const completes = [verb];
  const cut = 1 + Math.floor(at * (bytes.length - 2));
  switch (how) {
    case 'pieces':
      return [
        { bytes: bytes.slice(0, cut), completes: [] },
        { bytes: bytes.slice(cut), completes },
      ];
    case 'twice':
      return [{ bytes: bytes + bytes, completes: [verb, verb] }];
    case 'late':
      return [{ bytes: `\r\n${bytes}`, completes }];
    case 'partly': {
      // What follows looks like a request, and is a part of this one's last header.
      const opened = `GET ${small} HTTP/1.1\r\nHost: mirror.test\r\nX-Rest: `;
      return [
        { bytes: opened, completes: [] },
        { bytes, completes: ['GET'] },
      ];
    }
    default:
      return [{ bytes, completes }];
  }
}
type Framed = typeof framed extends fc.Arbitrary<infer T> ? T : never;

/** Requests that wait for more, or for less, than they say are not answered: they end what is said on a connection. */
function isAnswered({ asked: { odd } }: Framed): boolean {
  return odd === undefined || !/^(?:content-length: 3|Transfer|Expect|Upgrade)/.test(odd);
}

it('whatever is sent, and however, the answers are those of a mirror without a lane', async () => {
  const few = fc.array(framed, { minLength: 1, maxLength: 3 }).chain((pool) =>
    // The same ones again and again: only what was asked for before can be in the lane.
    fc.array(fc.constantFrom(...pool), { minLength: 4, maxLength: 10 }),
  );
  const property = fc.asyncProperty(few, async (said) => {
    const unanswered = said.findIndex((each) => !isAnswered(each));
    const steps = (unanswered === -1 ? said : said.slice(0, unanswered)).flatMap(stepsOf);
    const last = unanswered === -1 ? [] : stepsOf(said[unanswered] as Framed);
    // Said, and then the connection is left: what it is answered with depends on when.
    const tail = last.map((step) => ({ ...step, completes: [] }));
    const [one, other] = await Promise.all([
      converse(fast.url, [...steps, ...tail]),
      converse(slow.url, [...steps, ...tail]),
    ]);
    const answered = steps.flatMap(({ completes }) => completes);
    const whole = (text: string): string => lasting(answersIn(text, answered)?.join('') ?? text);
    expect(whole(one)).toBe(whole(other));
  });
  await fc.assert(property, { numRuns: 100 });
});
