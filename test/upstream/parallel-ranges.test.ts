import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { PartSlots } from '../../src/upstream/parallel-ranges.js';
import { randomBytes } from '../parts/random-bytes.js';
import {
  basic,
  clientOf,
  credentials,
  digest,
  patient,
  read,
  repository,
  serve,
  type Arrived,
  type Script,
} from './scripted-registry.js';

const MiB = 1024 * 1024;
const name = repository('o/i');
const size = 18 * MiB;
const content = randomBytes(size, 'parallel');
const blob = digest(content);
const ranges = { connections: 3, minsize: 9 * MiB, slots: new PartSlots() };

interface Asked {
  readonly start: number;
  readonly end: number;
}

/** `undefined`: for the whole blob. */
function askedOf({ headers }: Arrived, total = size): Asked | undefined {
  const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '');
  if (range === null) return undefined;
  const end = range[2] === '' ? total - 1 : Math.min(Number(range[2]), total - 1);
  return { start: Number(range[1]), end };
}

function send(request: Arrived, response: ServerResponse, bytes = content): void {
  const asked = askedOf(request, bytes.length);
  if (asked === undefined) {
    response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    return;
  }
  const { start, end } = asked;
  response.writeHead(206, {
    'content-range': `bytes ${start}-${end}/${bytes.length}`,
    'content-length': end - start + 1,
  });
  response.end(bytes.subarray(start, end + 1));
}

/** Serves by the rules of HTTP, but the part from this byte on as the script does; that of the first time alone. */
function spoilt(at: number, script: Script): Script {
  let isSpoilt = false;
  return (request, response) => {
    if (!isSpoilt && askedOf(request)?.start === at) {
      isSpoilt = true;
      script(request, response);
    } else send(request, response);
  };
}

const rangesAsked = (arrived: readonly Arrived[]) => arrived.map(({ headers }) => headers.range);
/** As much of the part as the upstream sends before something happens. */
const some = (request: Arrived, response: ServerResponse, bytes: number): void => {
  const { start, end } = askedOf(request) ?? { start: 0, end: size - 1 };
  response.writeHead(206, {
    'content-range': `bytes ${start}-${end}/${size}`,
    'content-length': end - start + 1,
  });
  response.write(content.subarray(start, start + bytes));
};

describe('a large blob in parallel ranges', () => {
  it('comes in its order, from any byte on, over as many connections as may be', async () => {
    const server = await serve(send);
    const { upstream, told } = clientOf(server.url, { ranges });
    const whole = await upstream.fetchBlob(name, blob, 0, patient);
    expect(whole.size).toBe(size);
    expect((await read(whole.body)).equals(content)).toBe(true);
    expect(rangesAsked(server.arrived).toSorted()).toEqual(
      [
        'bytes=0-4194303',
        'bytes=4194304-8388607',
        'bytes=8388608-12582911',
        'bytes=12582912-16777215',
        'bytes=16777216-18874367',
      ].toSorted(),
    );
    expect(server.connections()).toBeLessThan(server.arrived.length); // kept ones are used again
    const other = randomBytes(size, 'other');
    const second = clientOf((await serve((q, r) => send(q, r, other))).url, { ranges }).upstream;
    const rest = await second.fetchBlob(name, digest(other), 5_000_000, patient);
    expect((await read(rest.body)).equals(other.subarray(5_000_000))).toBe(true);
    expect(told.parts).toEqual(['begun']);
  });

  it('is not asked for in them where that is not switched on', async () => {
    const server = await serve(send);
    const { upstream } = clientOf(server.url, { ranges: { ...ranges, connections: 1 } });
    expect((await read((await upstream.fetchBlob(name, blob, 0, patient)).body)).equals(content)).toBe(true);
    expect(rangesAsked(server.arrived)).toEqual([undefined]);
  });

  it.each([
    ['as small as a part', 4 * MiB, ['bytes=0-4194303']],
    ['smaller', 1000, ['bytes=0-4194303']],
    ['larger, but below the least size', 8 * MiB, ['bytes=0-4194303', 'bytes=4194304-']],
  ])('does not have more of them when it is %s', async (_, length, asked) => {
    const bytes = content.subarray(0, length);
    const server = await serve((request, response) => send(request, response, bytes));
    const { upstream, told } = clientOf(server.url, { ranges });
    const fetched = await upstream.fetchBlob(name, blob, 0, patient);
    expect((await read(fetched.body)).equals(bytes)).toBe(true);
    expect([rangesAsked(server.arrived), told.parts]).toEqual([asked, []]);
  });

  it('is redirected for each part, and the credentials stay', async () => {
    const storage = await serve(send);
    const server = await serve((request, response) => {
      if (request.headers.authorization === basic) {
        response.writeHead(307, { location: `${storage.url}/signed` }).end();
      } else response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    });
    const { upstream } = clientOf(server.url, { ranges, ...credentials });
    expect((await read((await upstream.fetchBlob(name, blob, 0, patient)).body)).equals(content)).toBe(true);
    expect(storage.arrived).toHaveLength(5);
    expect(storage.arrived.map(({ headers }) => headers.authorization)).toEqual(Array(5).fill(undefined));
  });

  it('is not read faster than it is wanted', async () => {
    const server = await serve(send);
    const { upstream } = clientOf(server.url, { ranges });
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    await expect.poll(() => server.arrived.length).toBe(3);
    let received = 0;
    const asked: number[] = [];
    for await (const chunk of body) {
      received += chunk.byteLength;
      if (received <= 3 * MiB) asked.push(server.arrived.length);
    }
    expect(new Set(asked)).toEqual(new Set([3]));
    expect(received).toBe(size);
  });
});

describe('an upstream that objects to a range', () => {
  it.each<[string, Script]>([
    ['200', (_, r) => r.writeHead(200, { 'content-length': size }).end(content)],
    [
      'another start',
      (_, r) => r.writeHead(206, { 'content-range': `bytes 8388609-12582911/${size}` }).end('x'),
    ],
    [
      'another end',
      (_, r) => r.writeHead(206, { 'content-range': `bytes 8388608-12582910/${size}` }).end('x'),
    ],
    [
      'another size of the whole',
      (_, r) =>
        r
          .writeHead(206, { 'content-range': `bytes 8388608-12582911/${size + 1}` })
          .write(content.subarray(0, 99)),
    ],
    ['no range', (_, r) => r.writeHead(206).end(content)],
    ['416', (_, r) => r.writeHead(416).end()],
    ['429', (_, r) => r.writeHead(429).end()],
    ['403', (_, r) => r.writeHead(403).end()],
    [
      'more bytes than it said',
      (_, r) => {
        r.writeHead(206, { 'content-range': `bytes 8388608-12582911/${size}` });
        r.end(content.subarray(8 * MiB, 13 * MiB));
      },
    ],
  ])('by %s gives the rest over one connection, and whole blobs from then on', async (how, script) => {
    const server = await serve(spoilt(8 * MiB, script));
    const { upstream, told } = clientOf(server.url, { ranges });
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    expect((await read(body)).equals(content)).toBe(true);
    const asked = rangesAsked(server.arrived);
    // With too many of them, these bytes were there before the upstream was found out.
    expect(asked.at(-1)).toMatch(how === 'more bytes than it said' ? /^bytes=\d+-$/ : /^bytes=8388608-$/);
    expect(told.parts).toEqual(['begun', 'objected']);
    expect(told.log).toHaveLength(1);
    expect((await read((await upstream.fetchBlob(name, blob, 0, patient)).body)).equals(content)).toBe(true);
    expect(rangesAsked(server.arrived).slice(asked.length)).toEqual([undefined]);
    expect(told.log).toHaveLength(1);
  });

  it.each<[string, Script, number]>([
    ['the whole', (_, r) => r.writeHead(200, { 'content-length': size }).end(content), 1],
    ['416', (_, r) => r.writeHead(416).end(), 2],
    ['501', (_, r) => r.writeHead(501).end(), 2],
    [
      'no size of the whole',
      (_, r) => r.writeHead(206, { 'content-range': 'bytes 0-4194303/*' }).write('x'),
      2,
    ],
  ])('at once, by %s, is asked for the whole: no client sees it', async (_, script, requests) => {
    const server = await serve(spoilt(0, script));
    const { upstream, told } = clientOf(server.url, { ranges });
    const fetched = await upstream.fetchBlob(name, blob, 0, patient);
    expect([fetched.size, (await read(fetched.body)).equals(content)]).toEqual([size, true]);
    expect([server.arrived.length, told.parts]).toEqual([requests, ['objected']]);
  });

  it('is not taken for one because a blob is missing, or empty', async () => {
    const missing = clientOf((await serve((_, r) => r.writeHead(404).end())).url, { ranges });
    await expect(missing.upstream.fetchBlob(name, blob, 0, patient)).rejects.toMatchObject({
      code: 'not-found',
    });
    const empty = clientOf((await serve((_, r) => r.writeHead(200, { 'content-length': 0 }).end())).url, {
      ranges,
    });
    expect(await read((await empty.upstream.fetchBlob(name, blob, 0, patient)).body)).toHaveLength(0);
    expect([...missing.told.parts, ...empty.told.parts]).toEqual([]);
  });
});

describe('a part that breaks', () => {
  it.each([
    ['the first', 0],
    ['one ahead', 8 * MiB],
    ['the last', 16 * MiB],
  ])('goes on from its own byte: %s', async (_, at) => {
    const server = await serve(
      spoilt(at, (request, response) => {
        some(request, response, MiB);
        response.write('', () => response.destroy());
      }),
    );
    const { upstream, told } = clientOf(server.url, { ranges });
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    expect((await read(body)).equals(content)).toBe(true);
    expect(server.arrived).toHaveLength(6);
    expect(told.parts).toEqual(['begun', 'resumed']);
    const again = server.arrived
      .map((each) => askedOf(each)?.start ?? 0)
      .filter((start) => start % MiB !== 0);
    for (const start of again) expect(start).toBeGreaterThan(at);
  });

  it('goes on after a stall', async () => {
    const server = await serve(spoilt(4 * MiB, (request, response) => some(request, response, MiB)));
    const { upstream, told } = clientOf(server.url, { ranges, timeouts: { bodyIdleMs: 500 } });
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    expect((await read(body)).equals(content)).toBe(true);
    expect(told.parts).toContain('resumed');
  });

  it('is cut short each time and comes all the same', async () => {
    let cuts = 0;
    const server = await serve((request, response) => {
      const asked = askedOf(request);
      if (asked === undefined || asked.end - asked.start < MiB) return send(request, response);
      cuts += 1;
      some(request, response, MiB);
      response.write('', () => response.destroy());
    });
    const { upstream } = clientOf(server.url, { ranges });
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    expect((await read(body)).equals(content)).toBe(true);
    expect(cuts).toBeGreaterThan(10);
  });

  it('without progress is trouble at its byte, after those before it', async () => {
    const server = await serve((request, response) => {
      if (askedOf(request)?.start === 8 * MiB) response.destroy();
      else send(request, response);
    });
    const { upstream } = clientOf(server.url, { ranges });
    const { body } = await upstream.fetchBlob(name, blob, 0, patient);
    const chunks: Uint8Array[] = [];
    const reading = (async () => {
      for await (const chunk of body) chunks.push(chunk);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'unreachable', kind: 'trouble' });
    expect(Buffer.concat(chunks).equals(content.subarray(0, 8 * MiB))).toBe(true);
  });
});

describe('a reader that leaves parallel ranges', () => {
  it.each<[string, (body: AsyncIterable<Uint8Array>, leaving: AbortController) => Promise<void>]>([
    ['before it began', async (body) => void (await body[Symbol.asyncIterator]().return?.())],
    [
      'in the middle',
      async (body) => {
        for await (const _ of body) break;
      },
    ],
    [
      'by its signal',
      async (body, leaving) => {
        leaving.abort(new Error('enough'));
        await expect(read(body)).rejects.toThrow('enough');
      },
    ],
  ])('%s gives up all connections', async (_, leave) => {
    const slots = new PartSlots();
    const closed: Promise<unknown>[] = [];
    const all = Promise.withResolvers<void>();
    const server = await serve((request, response) => {
      some(request, response, 1000);
      closed.push(once(response, 'close'));
      if (closed.length === 3) all.resolve();
    });
    const { upstream } = clientOf(server.url, { ranges: { ...ranges, slots } });
    const leaving = new AbortController();
    const { body } = await upstream.fetchBlob(name, blob, 0, leaving.signal);
    await all.promise;
    expect(slots.left).toBe(13);
    await leave(body, leaving);
    await Promise.all(closed);
    expect([slots.left, server.arrived.length]).toEqual([16, 3]);
  });
});
