import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { imageOf, randomLayer } from '../parts/image.js';
import { blobOf, metric, type Mirror, startMirror } from '../parts/mirror.js';
import { receivesAll } from '../parts/replicas.js';
import { attacks } from './attacks.js';
import { get, say } from './raw.js';

const MiB = 1024 * 1024;
/** Also what is read as fast as it is sent, until the collector comes. */
const allowedGrowth = 256 * MiB;
const image = imageOf({ layers: [randomLayer(2 * MiB, 'honest')] });
const large = blobOf(32 * MiB, 'slow');

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
    const enemies = await attack({
      url: mirror.cistern.url,
      blob: `/v2/team/app/blobs/${large.digest}`,
      manifest: '/v2/team/app/manifests/v1',
      idle: 2_000,
    });
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
