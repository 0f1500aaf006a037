import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SlowClient } from '../fakes/slow-client.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric, type Mirror, startMirror } from '../parts/mirror.js';
import { receivesAll } from '../parts/replicas.js';
import { dial, get, type RawConnection, say } from './raw.js';

const MiB = 1024 * 1024;
const allowedGrowth = 160 * MiB;
const image = imageOf({ layers: [randomLayer(2 * MiB, 'honest')] });
const large = blobOf(32 * MiB, 'slow');

/** Enemies who do so until they are disposed of; how many connections each has is theirs. */
type Attack = (mirror: Mirror) => Promise<Disposable[]>;

function many(count: number, start: (index: number) => Promise<Disposable>): Promise<Disposable[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => start(index)));
}

/** Dials again whenever it is cut, and says this at once. */
function repeating(url: string, text: string): Promise<Disposable> {
  const stopped = new AbortController();
  let current: RawConnection | undefined;
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      current = await dial(url);
      current.socket.write(text, 'latin1');
      await current.ended;
    }
  };
  void loop();
  return Promise.resolve({
    [Symbol.dispose]: () => {
      stopped.abort();
      current?.[Symbol.dispose]();
    },
  });
}

const attacks: readonly (readonly [string, Attack])[] = [
  ['idle connections', ({ cistern }) => many(2_000, () => dial(cistern.url))],
  [
    'slow headers',
    ({ cistern }) =>
      many(500, async () => {
        const connection = await dial(cistern.url);
        connection.socket.write('GET /v2/ HTTP/1.1\r\nHost: mirror\r\nX-Slow: ');
        const timer = setInterval(() => connection.socket.write('x'), 200);
        return {
          [Symbol.dispose]: () => {
            clearInterval(timer);
            connection[Symbol.dispose]();
          },
        };
      }),
  ],
  [
    'slow reads',
    (mirror) =>
      many(200, async () => {
        const client = new SlowClient(mirror.url(`team/app/blobs/${large.digest}`), { pauseAfter: 16_384 });
        await client.received(16_384);
        return client;
      }),
  ],
  ['header floods', ({ cistern }) => many(20, () => repeating(cistern.url, get('/v2/', flood)))],
  [
    'pipelined garbage',
    ({ cistern }) =>
      many(20, () =>
        repeating(
          cistern.url,
          `${'GET /v2/ HTTP/1.1\r\nHost: m\r\n\r\n'.repeat(500)}\0\u00ffnonsense\r\n\r\n`,
        ),
      ),
  ],
  [
    'answers that nobody reads',
    (mirror) =>
      many(50, async () => {
        const connection = await dial(mirror.cistern.url);
        connection.socket.pause();
        connection.socket.write(`GET /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: m\r\n\r\n`.repeat(200));
        return connection;
      }),
  ],
];
const flood = Array.from({ length: 5_000 }, (_, index) => `X-Flood-${index}: ${'x'.repeat(20)}`);

describe('while clients attack with', () => {
  let mirror: Mirror;
  beforeAll(async () => {
    mirror = await startMirror({ config: { log: { level: 'info', accesslog: { disabled: true } } } });
    mirror.upstream.addImage('team/app', 'v1', image);
    mirror.upstream.addBlob('team/app', large);
    await receivesAll(mirror.url(`team/app/blobs/${large.digest}`), large.bytes);
  });
  afterAll(() => mirror[Symbol.asyncDispose]());

  async function memory(): Promise<number> {
    const status = await readFile(`/proc/${mirror.cistern.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  }

  async function pull(): Promise<void> {
    expect((await fetch(mirror.url('team/app/manifests/v1'))).status).toBe(200);
    for (const { digest, bytes } of image.layers) {
      expect(await receivesAll(mirror.url(`team/app/blobs/${digest}`), bytes)).toBe(true);
    }
  }

  it.each(attacks)('%s, others pull, and memory stays bounded', async (_, attack) => {
    await pull();
    const before = await memory();
    const enemies = await attack(mirror);
    try {
      for (let count = 0; count < 5; count += 1) await pull();
      expect((await memory()) - before).toBeLessThan(allowedGrowth);
    } finally {
      for (const enemy of enemies) enemy[Symbol.dispose]();
    }
    await pull();
  });

  it('whoever does not wait for an answer is cut, and is forgotten', async () => {
    const path = `/v2/team/app/blobs/${large.digest}`;
    const answer = await say(mirror.cistern.url, get(path).replace('close', 'keep-alive').repeat(50));
    expect(answer.length).toBeLessThan(large.bytes.byteLength);
    const inFlight = () => metric(mirror.cistern, 'registry_http_in_flight_requests');
    await expect.poll(inFlight).toBe(0);
  });

  it.each([
    '/v2/../../etc/passwd/manifests/v1',
    '/v2/team/app/blobs/..%2f..%2f..%2fetc%2fpasswd',
    '/v2/team%2fapp%00/manifests/v1',
    '/v2/%2e%2e/%2e%2e/manifests/v1',
    '/v2/team\\app/manifests/v1',
    '/v2/team/app/manifests/%c0%ae%c0%ae',
    '//v2/team/app/manifests/v1/../v1',
  ])('a path such as %s, it is refused', async (path) => {
    expect(await say(mirror.cistern.url, get(path))).toMatch(/^HTTP\/1.1 4\d\d [^]*"(?:errors|message)"/);
  });
});
