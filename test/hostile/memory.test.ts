import { describe, expect, it } from 'vitest';
import { receive, SlowClient } from '../fakes/slow-client.js';
import { imageOf, randomLayer } from '../parts/image.js';
import { expectSpecError, type Mirror, sha256, startMirror } from '../parts/mirror.js';
import { type Script, serve } from '../upstream/scripted-registry.js';

const MiB = 1024 * 1024;
const image = imageOf({ layers: [randomLayer(100_000, 'memory')] });
const numbers = (count: number): number[] => Array.from({ length: count }, (_, number) => number);
/** As `npm start` has it. */
const limited = {
  NODE_OPTIONS: '--max-semi-space-size=2 --max-old-space-size=384',
  MALLOC_ARENA_MAX: '1',
  MALLOC_MMAP_THRESHOLD_: '131072',
};

/** A JSON list of this many bytes that consists of one entry again and again. */
function listOf(before: string, entry: string, bytes: number): Buffer {
  const count = Math.floor(bytes / (entry.length + 1)) - 1;
  return Buffer.from(`${before}[${`${entry},`.repeat(count)}${entry}]}`);
}

/** Different tags of so many letters. */
function tagsOf(bytes: number, letters: number): Buffer {
  const tags = numbers(Math.floor(bytes / (letters + 3))).map(
    (number) => `"t${String(number).padStart(letters - 1, '0')}"`,
  );
  return Buffer.from(`{"tags":[${tags.join(',')}]}`);
}

/** Answers every GET with one body. */
function always(status: number, type: string, body: Buffer): Script {
  return ({ method }, response) => {
    response.on('error', () => undefined);
    if (method === 'HEAD') response.writeHead(405).end();
    else response.writeHead(status, { 'content-type': type }).end(body);
  };
}

describe('a mirror with the memory that npm start gives it', () => {
  /** An honest upstream, and one that does what the script says. */
  async function start(script: Script): Promise<Mirror & { evil(path: string): string }> {
    const { url } = await serve(script);
    const mirror = await startMirror({
      env: limited,
      proxy: { upstreams: [{ host: 'evil.test', url }] },
      config: { http: { limits: { requests: 4096 } } },
    });
    mirror.upstream.addImage('team/app', 'v1', image);
    return { ...mirror, evil: (path) => `${mirror.url(path)}?ns=evil.test` };
  }

  async function pullsHonestly(mirror: Mirror): Promise<void> {
    const layer = image.layers[0];
    if (layer === undefined) throw new Error('an image without layers');
    expect((await fetch(mirror.url('team/app/manifests/v1'))).status).toBe(200);
    const answer = await fetch(mirror.url(`team/app/blobs/${layer.digest}`));
    expect(`sha256:${sha256(new Uint8Array(await answer.arrayBuffer()))}`).toBe(layer.digest);
    expect((await fetch(mirror.url('team/app/tags/list'))).status).toBe(200);
  }

  const json = 'application/json';
  const lists: [string, Script][] = [
    ['tags of 31 MB', always(200, json, tagsOf(31_000_000, 8))],
    ['long tags of 16 MB', always(200, json, tagsOf(16_000_000, 128))],
    ['short tags of 8 MB', always(200, json, tagsOf(8_000_000, 8))],
    ['empty tags of 7 MB', always(200, json, listOf('{"tags":', '""', 7_000_000))],
    ['empty arrays instead of tags, 7 MB', always(200, json, listOf('{"tags":', '[]', 7_000_000))],
    ['nested arrays, 8 MB', always(200, json, Buffer.from(`{"tags":${'['.repeat(4e6)}${']'.repeat(4e6)}}`))],
  ];

  it.each(lists.slice(0, 2))(
    'goes on while an upstream sends twelve lists in turn: %s',
    async (_, script) => {
      await using mirror = await start(script);
      for (const number of numbers(12)) {
        const answer = await fetch(mirror.evil(`evil/app${number}/tags/list`));
        await answer.arrayBuffer();
        expect([200, 503]).toContain(answer.status);
      }
      await pullsHonestly(mirror);
    },
  );

  it.each(lists)('goes on while an upstream sends forty lists at once: %s', async (_, script) => {
    await using mirror = await start(script);
    const statuses = await Promise.all(
      numbers(40).map(async (number) => {
        const answer = await fetch(mirror.evil(`evil/app${number}/tags/list`));
        await answer.arrayBuffer();
        return answer.status;
      }),
    );
    expect(statuses.filter((status) => status !== 200 && status !== 503)).toEqual([]);
    await pullsHonestly(mirror);
  });

  it.each<[string, Script]>([
    ['31 MB', always(200, json, listOf('{"manifests":', '{"artifactType":"a"}', 31_000_000))],
    ['4 MB', always(200, json, listOf('{"manifests":', '{"artifactType":"a"}', 4_000_000))],
    ['empty ones, 7 MB', always(200, json, listOf('{"manifests":', '{}', 7_000_000))],
  ])('goes on while an upstream sends forty lists of referrers at once: %s', async (_, script) => {
    await using mirror = await start(script);
    await Promise.all(
      numbers(40).map(async (number) => {
        const path = mirror.evil(`evil/app/referrers/sha256:${String(number).padStart(64, '0')}`);
        const answer = await fetch(`${path}&artifactType=a`);
        await answer.arrayBuffer();
        expect([200, 404, 503]).toContain(answer.status);
      }),
    );
    await pullsHonestly(mirror);
  });

  it('answers one address while another one asks for sixty manifests of 4 MiB and reads none of them', async () => {
    const manifests = numbers(60).map((number) => {
      const pad = 'x'.repeat(4 * MiB - 400);
      const manifest = { schemaVersion: 2, mediaType: image.manifest.mediaType, number, pad };
      const config = { mediaType: 'application/json', digest: `sha256:${'0'.repeat(64)}`, size: 2 };
      return (): Buffer => Buffer.from(JSON.stringify({ ...manifest, config, layers: [] }));
    });
    const byDigest = new Map(manifests.map((make, number) => [`sha256:${sha256(make())}`, number]));
    await using mirror = await start(({ url, method }, response) => {
      response.on('error', () => undefined);
      const body = manifests[byDigest.get(url.slice(url.lastIndexOf('/') + 1)) ?? -1]?.();
      if (body === undefined || method === 'HEAD') response.writeHead(404).end();
      else response.writeHead(200, { 'content-type': image.manifest.mediaType }).end(body);
    });
    using clients = new DisposableStack();
    const path = (digest: string): string => mirror.evil(`evil/app/manifests/${digest}`);
    const answers = await Promise.all(
      [...byDigest.keys()].map(async (digest) => {
        const client = new SlowClient(path(digest), { pauseAfter: 1, localAddress: '127.0.0.2' });
        clients.use(client);
        const { status, headers } = await client.answered;
        return { digest, status, retryAfter: headers['retry-after'] };
      }),
    );
    expect(answers).toContainEqual(expect.objectContaining({ status: 200 }));
    // An answer of the mirror for want of memory; an upstream's time-out has another `Retry-After`.
    const refused = answers.filter(({ status, retryAfter }) => status === 503 && retryAfter === '5');
    expect(refused.length).toBeGreaterThan(1);
    await pullsHonestly(mirror);
    const [first = '', last = ''] = [refused[0]?.digest, refused.at(-1)?.digest];
    await expect.poll(async () => (await fetch(path(first))).status).toBe(200);
    clients.dispose();
    const ask = () => receive(path(last), { localAddress: '127.0.0.2' });
    await expect.poll(async () => (await ask()).status).toBe(200);
  });

  it('answers for one upstream while another one sends lists and never ends them', async () => {
    const begun = tagsOf(7_000_000, 70).subarray(0, -2);
    let lists = 0;
    await using mirror = await start((_, response) => {
      response.on('error', () => undefined);
      response.writeHead(200, { 'content-type': json }).write(begun);
      lists += 1;
    });
    using clients = new DisposableStack();
    for (const number of numbers(40)) {
      clients.use(new SlowClient(mirror.evil(`evil/app${number}/tags/list`)));
    }
    await expect.poll(() => lists).toBe(40);
    await pullsHonestly(mirror);
  });

  it('goes on while an upstream sends large tokens and large errors', async () => {
    const large = Buffer.alloc(32 * MiB, 'x');
    const token = Buffer.from(JSON.stringify({ token: 'x'.repeat(31 * MiB) }));
    await using mirror = await start(({ url, headers }, response) => {
      response.on('error', () => undefined);
      const realm = `Bearer realm="http://${headers.host ?? ''}/token",service="evil"`;
      if (url.startsWith('/token')) response.writeHead(200, { 'content-type': json }).end(token);
      else if (url.includes('/closed')) response.writeHead(401, { 'www-authenticate': realm }).end(large);
      else response.writeHead(500, { 'content-type': json }).end(large);
    });
    await Promise.all(
      numbers(40).map(async (number) => {
        const name = number % 2 === 0 ? `closed${number}` : `open${number}`;
        const answer = await fetch(mirror.evil(`evil/${name}/manifests/v1`));
        await expectSpecError(answer, 503, 'UNAVAILABLE');
        expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      }),
    );
    await pullsHonestly(mirror);
  });
});
